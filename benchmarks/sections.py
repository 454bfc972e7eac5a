"""What exact sections, crossings and meshes cost, beside regioncam where it is installed.

Prints, in CPU seconds on one thread:

- all linear regions of a trained 784-100-100-10 network in the plane of three test images, the
  error of their areas and the pixels of another class than the network says; regioncam, which works
  in float32, on the same network and rectangle;
- the boundary of ConvNet-4a in the plane of three test images, traced, and its residual; the same
  with the proof that it is all;
- all linear pieces of ConvNet-4a from one image to another;
- the mesh of a network of three layers of ReLUs, fitted to a sphere.

Pictures and weights come from LEVELSET_DATA; without it the networks are trained on digits, or not
at all. `--only` chooses.
"""

import argparse
import importlib.util
import os
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from levelset.boundary import exact_crossings, exact_section
from levelset.datasets import read_images
from levelset.networks import convnet_4a, fc
from levelset.reconstruction import exact_mesh
from levelset.training import initialise, train

Plane = dict[str, Any]


def seconds(job: Callable[[], object], repeats: int = 1) -> tuple[float, Any]:
    """Return the median CPU seconds of a job, and its last answer."""
    times, answer = [], None
    for _ in range(repeats):
        began = time.process_time()
        answer = job()
        times.append(time.process_time() - began)
    return statistics.median(times), answer


def images(split: str = "test") -> Any:
    """Return MNIST where there is a folder of data, else digits."""
    return read_images("mnist" if "LEVELSET_DATA" in os.environ else "digits", split=split)


def plane(points: torch.Tensor, extent: float) -> Plane:
    """Return the plane of three points, with orthonormal axes round their middle."""
    a, b, c = points[:3].double()
    u = (b - a) / (b - a).norm()
    v = (c - a) - ((c - a) * u).sum() * u
    return {"origin": (a + b + c) / 3, "u": u, "v": v / v.norm(), "extent": extent}


def regions(repeats: int, epochs: int) -> None:
    """Print ours beside regioncam's on the plane of three images."""
    data, generator = images("train"), torch.Generator().manual_seed(0)
    inputs = data.points[0].numel()
    model = initialise(fc(inputs, 100, 100, len(data.classes)), generator=generator)
    train(model, data[slice(0, 20_000)], epochs=epochs, generator=generator)
    where = plane(images().points, 12.5 if inputs == 784 else 3.0)
    model = model.double()
    spent, section = seconds(lambda: exact_section(model, **where, route="subdivision"), repeats)
    area = (2 * where["extent"]) ** 2
    error, pixels = abs(float(section.areas.sum()) - area) / area, wrong(model, where, section)
    print(f"subdivision    {spent:7.3f} s  {section.linear_regions:,} regions, "
          f"{len(section.regions):,} of one class, area off by {error:.0e}, Euler "
          f"{section.regions.euler}, {pixels} of 512^2 pixels differ")  # fmt: skip
    if importlib.util.find_spec("regioncam") is None:
        print("regioncam is not installed, and so left out (pip install regioncam)")
        return
    theirs, camera = seconds(lambda: peer(model, where), repeats)
    corners = torch.from_numpy(camera.vertex_inputs).double()
    total = 0.0
    for face in camera.faces:
        around = corners[list(face.vertex_ids)]
        after = around.roll(-1, 0)
        total += abs(float((around[:, 0] * after[:, 1] - around[:, 1] * after[:, 0]).sum())) / 2
    print(f"regioncam      {theirs:7.3f} s  {camera.num_faces:,} regions, float32, area off by "
          f"{abs(total - area) / area:.0e}; ours takes {spent / theirs:.2f} x as long")  # fmt: skip


def wrong(model: torch.nn.Module, where: Plane, section: Any) -> int:
    """Return the pixels whose class is not the network's."""
    side, half = 512, where["extent"]
    ticks = (torch.arange(side, dtype=torch.float64) + 0.5) / side * 2 * half - half
    places = torch.cartesian_prod(ticks, ticks).flip(1)
    axes = torch.stack([where["u"], where["v"]]).flatten(1)
    with torch.no_grad():
        answers = torch.cat([
            model(where["origin"].flatten() + part @ axes).argmax(1) for part in places.split(8192)
        ])  # fmt: skip
    return int((section.raster(side).flatten() != answers).sum())


def peer(model: torch.nn.Module, where: Plane) -> Any:
    """Return regioncam's regions of the same network on the same square."""
    import regioncam

    camera = regioncam.Regioncam(size=where["extent"])
    inputs = torch.nn.Linear(2, where["u"].numel())
    inputs.weight.data = torch.stack([where["u"], where["v"]]).flatten(1).T.float()
    inputs.bias.data = where["origin"].flatten().float()
    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
    camera.add(inputs)
    for number, layer in enumerate(layers):
        copy = torch.nn.Linear(layer.in_features, layer.out_features)
        copy.weight.data, copy.bias.data = layer.weight.data.float(), layer.bias.data.float()
        camera.add(copy)
        if number + 1 < len(layers):
            camera.relu()
    return camera


def convnet() -> torch.nn.Module:
    """Return ConvNet-4a with the released weights where they are, else untrained."""
    model = initialise(convnet_4a(), generator=torch.Generator().manual_seed(0))
    weights = (
        Path(os.environ.get("LEVELSET_DATA", "")) / "networks/mnist-convnet4a-xent.safetensors"
    )
    if weights.is_file():
        model.load_state_dict(load_file(weights))
    return model.double().eval()


def pictures() -> torch.Tensor:
    """Return test images of 28 x 28."""
    points = images().points
    return torch.nn.functional.interpolate(points[:10], size=(28, 28))


def boundary(extent: float, route: str) -> None:
    """Print the cost of the boundary in a plane of three images."""
    model, where = convnet(), plane(pictures(), extent)
    spent, section = seconds(lambda: exact_section(model, **where, route=route))
    ends = section.boundary.flatten(0, 1)
    residual = 0.0
    axes = torch.stack([where["u"], where["v"]])
    with torch.no_grad():
        for part, pair in zip(ends.split(64), section.sides.repeat_interleave(2, 0).split(64),
                              strict=True):  # fmt: skip
            logits = model(where["origin"] + torch.einsum("nk,k...->n...", part, axes))
            both = logits.gather(1, pair)
            residual = max(residual, float((both[:, 0] - both[:, 1]).abs().max()))
    print(f"{route:<14} {spent:7.1f} s  {len(section.boundary):,} segments, length "
          f"{float(section.lengths.sum()):.4f}, {len(section.triple_points)} triple points, "
          f"residual {residual:.1e}, {'' if section.complete else 'not '}proven complete; "
          f"{1e3 * spent / len(section.boundary):.2f} ms a segment")  # fmt: skip


def crossings() -> None:
    """Print the cost of all pieces between two images."""
    model, points = convnet(), pictures().double()
    spent, changes = seconds(lambda: exact_crossings(model, points[0], points[1], regions=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"crossings      {spent:7.1f} s  {changes.pieces:,} pieces, {len(changes)} changes of "
          f"class, at most {peak:.2f} GB in use")  # fmt: skip


def mesh(width: int, steps: int) -> None:
    """Print the cost of the mesh of a network that was fitted to a sphere."""
    generator = torch.Generator().manual_seed(0)
    field = initialise(fc(3, width, width, width, 1), generator=generator)
    optimizer = torch.optim.Adam(field.parameters(), 1e-3)
    for _ in range(steps):
        points = 2 * torch.rand(512, 3, generator=generator) - 1
        loss = (field(points)[:, 0] - (points.norm(dim=1) - 0.7)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    bounds = ([-1.0] * 3, [1.0] * 3)
    spent, surface = seconds(lambda: exact_mesh(field.double(), bounds=bounds))
    edges = torch.cat([surface.faces[:, pair] for pair in ([0, 1], [1, 2], [2, 0])])
    _, counts = torch.unique(edges.sort(dim=1).values, dim=0, return_counts=True)
    with torch.no_grad():
        residual = float(field(surface.vertices).abs().max())
    print(f"mesh           {spent:7.1f} s  {len(surface.faces):,} triangles of 3-{width}-{width}-"
          f"{width}-1, {int((counts != 2).sum())} edges without two faces, residual "
          f"{residual:.1e}")  # fmt: skip


def main() -> None:
    """Run what was chosen."""
    jobs = ("regions", "tracing", "certified", "crossings", "mesh")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=jobs, default=jobs)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=6, help="to train the 784-100-100-10")
    parser.add_argument("--extent", type=float, default=5.67, help="half the side that is traced")
    parser.add_argument("--width", type=int, default=64, help="of the network that is meshed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if "regions" in options.only:
        regions(options.repeats, options.epochs)
    for route in ("tracing", "certified"):
        if route in options.only:
            boundary(options.extent, route)
    if "crossings" in options.only:
        crossings()
    if "mesh" in options.only:
        mesh(options.width, 300)


if __name__ == "__main__":
    main()
