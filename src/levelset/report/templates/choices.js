// What the page shows: model, norm, pinned input, search and order, one choice for the whole page,
// also in its address; and the navigation.

const choice = { audit: 0, norm: null, input: null, search: "", sort: "index" };
const notice = document.querySelector("[data-notice]");
let here = readAddress(location.hash).section;

function choose(changed, how = "push") {
  Object.assign(choice, changed);
  for (const input of document.querySelectorAll("[data-choice]")) {
    input.checked = input.value === String(choice[input.dataset.choice]);
  }
  for (const group of new Set([...document.querySelectorAll(".view")].map((v) => v.parentNode))) {
    const views = [...group.children];
    const same = views.filter((view) => Number(view.dataset.audit) === choice.audit);
    const shown = same.find((view) => view.dataset.norm === choice.norm) || same[0];
    for (const view of views) view.hidden = view !== shown;
  }
  tell("choice", changed);
  if (how !== "keep") remember(how);
}

for (const input of document.querySelectorAll("[data-choice]")) {
  input.addEventListener("change", () => {
    const { choice: name } = input.dataset;
    choose({ [name]: name === "audit" ? Number(input.value) : input.value });
  });
}

const held = () => ({ audits: book.audits, inspects: Boolean(inspector) });
const addressOf = (section) => writeAddress(section, book ? stateOf(choice, held()) : {});

function remember(how) {
  say([]);
  const address = addressOf(here) || location.href.split("#")[0];
  if (address === (location.hash || location.href.split("#")[0])) return;
  history[how === "replace" ? "replaceState" : "pushState"](null, "", address);
}

function say(ignored) {
  if (!notice) return;
  notice.hidden = !ignored.length;
  notice.textContent = ignored.length
    ? `The address of this page names what it does not have: ${ignored.join(", ")}. That part is ignored.` : "";
}

// Show what the address says: when the page opens, and on the way back and forward.
function restore() {
  const { section, state, unknown } = readAddress(location.hash);
  const ignored = unknown.map((key) => `“${key}”`);
  const target = section && document.getElementById(section);
  if (section && !target) ignored.push(`the section “${section}”`);
  here = target ? section : "";
  if (book) {
    const read = choiceOf(state, held());
    choose(read.choice, "keep");
    ignored.push(...read.ignored);
  }
  say(ignored);
  if (target && location.hash.includes("?")) target.scrollIntoView({ behavior: "instant" });
}

addEventListener("popstate", restore);

function go(section) {
  here = section;
  remember("push");
  document.getElementById(section).scrollIntoView();
}

// The navigation and the anchors beside the headings carry the choice along.
const links = new Map(
  [...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]),
);
for (const link of document.querySelectorAll("nav a, a.anchor")) {
  const name = decodeURIComponent(link.hash.slice(1));
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    go(name);
    if (!link.matches(".anchor")) return;
    const copied = navigator.clipboard?.writeText(location.href) ?? Promise.reject();
    copied.then(() => "Link copied", () => "The link is in the address bar").then((words) => {
      link.dataset.said = words;
      setTimeout(() => delete link.dataset.said, 2000);
    });
  });
}

// The navigation marks the section that is being read.
const reading = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    for (const link of links.values()) link.removeAttribute("aria-current");
    const link = links.get(encodeURIComponent(target.id)) ?? links.get(target.id);
    if (!link) continue;
    link.setAttribute("aria-current", "true");
    const bar = link.closest("ul");
    bar.scrollTo({ left: link.offsetLeft - bar.clientWidth / 2 + link.clientWidth / 2 });
  }
}, { rootMargin: "-20% 0px -75% 0px" });
for (const section of document.querySelectorAll("main > section")) reading.observe(section);

// Headings stop below the navigation, which has a second line on narrow screens of many sections.
const bar = document.querySelector("nav");
new ResizeObserver(() => {
  root.style.setProperty("--bar", `${bar.offsetHeight}px`);
}).observe(bar);
