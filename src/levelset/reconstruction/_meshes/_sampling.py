"""Points drawn uniformly by area from a mesh."""

import torch
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.checks import check_at_least_one
from levelset.errors import DataError
from levelset.reconstruction._meshes._mesh import Mesh

__all__ = ["sample_surface"]


@checked
def sample_surface(
    mesh: Mesh, draws: int, *, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    r"""Draw points of a mesh, uniform by area.

    A face is drawn with its share of the area, then a point in it: $(1 - \sqrt a) p + \sqrt a (1 -
    b) q + \sqrt a b r$ with uniform a, b.

    Args:
        mesh: The surface.
        draws: How many points.
        generator: The source of randomness; `None` for a new one of seed 0.

    Returns:
        The points, `(draws, 3)`, float64, and the face that each lies on, `(draws,)`, int64.

    Raises:
        DataError: If the mesh has no area.
        ParameterError: If `draws` is below 1.

    References:
        - R. Osada et al., "Shape distributions", ACM Trans. Graphics 21 (2002), section 4.1.
    """
    check_at_least_one("sample_surface", "draws", draws)
    cumulative = mesh.face_areas.cumsum(0)
    if len(cumulative) == 0 or not float(cumulative[-1]) > 0:
        message = (
            f"sample_surface: `mesh` must have an area, got {len(mesh.faces)} faces without one. "
            "Was there a surface inside the bounds?"
        )
        raise DataError(message)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    uniform = torch.rand(
        3, draws, generator=generator, dtype=torch.float64, device=generator.device
    ).cpu()
    faces = torch.searchsorted(cumulative, uniform[0] * cumulative[-1], right=True)
    faces = faces.clamp(max=len(cumulative) - 1)
    corner = mesh.vertices[mesh.faces[faces]]
    root, share = uniform[1].sqrt()[:, None], uniform[2][:, None]
    along = (1 - share) * corner[:, 1] + share * corner[:, 2]
    return (1 - root) * corner[:, 0] + root * along, faces
