r"""The slow twin: SNELL in the paper's notation, by plain autograd, imported by nothing but tests.

A weight $W_0 \in R^{m \times n}$ maps n inputs to m outputs. The factors are $A \in R^{n \times r}$
(input side) and $B \in R^{m \times r}$ (output side); $x_{[p]}$ is the p-th chunk of a row x.

1. Kernel: $w_{ij} = \kappa(B_i, A_j)$. Piecewise linear distance, frozen $\alpha_p = \pm 0.1$:
   $w_{ij} = \sum_p \alpha_p \lVert B_{i[p]} - A_{j[p]} \rVert_2$.
   Linear: $w_{ij} = \langle B_i, A_j \rangle$, which is LoRA.
   Sigmoid: $\alpha / (1 + \exp(-\beta \langle B_i, A_j \rangle)) + \gamma$.
   RBF: $\alpha \exp(-\beta \lVert B_i - A_j \rVert_2^2) + \gamma$.
   SNELLA's: $D_{ij} + \alpha\,\mathrm{softmax}_i(D_{ij} / \gamma) + \beta$, with D the piecewise
   linear distance. The paper learns all $\alpha, \beta, \gamma$.
2. Competition: $\tau$ is the $\lceil s\,mn \rceil$-th smallest $|w|$, one a matrix and step.
3. Sparse update, from $w$ and $\tau$:
   released code $w\,|w|\,1[|w| > \tau]$ with $|w|\,1[\cdot]$ detached;
   paper, equation 5: $w \max(|w| - \tau, 0)$; hard: $w\,1[|w| > \tau]$; none: $w$.
   At s = 0 the release trains KLoRA, the update $w$ itself.
4. Output: $y = x W_0^\top + b + x\,\Delta W^\top$, two branches. In training the release drops a
   share p of the second branch's input and a share q of its samples, and divides what is left by
   $1 - p$ and $1 - q$.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["SnellLinearReference", "reference_delta"]


def piecewise_linear(A: Tensor, B: Tensor, P: int, alphas: Tensor | None = None) -> Tensor:
    """Table A6, "piecewise linear distance": `(m, n)` from `A (n, r)` and `B (m, r)`."""
    w = torch.zeros(B.shape[0], A.shape[0], dtype=A.dtype, device=A.device)
    for p, (A_p, B_p) in enumerate(zip(A.chunk(P, dim=1), B.chunk(P, dim=1), strict=True)):
        alpha_p = 0.1 * (-1) ** p if alphas is None else alphas[p]
        differences = B_p[:, None, :] - A_p[None, :, :]  # (m, n, r / P)
        w = w + alpha_p * torch.linalg.vector_norm(differences, dim=-1)
    return w


def linear(A: Tensor, B: Tensor) -> Tensor:
    """Table A6, "linear": the inner product of rows."""
    return B @ A.T


def sigmoid(A: Tensor, B: Tensor, coefficients: Tensor | None) -> Tensor:
    """Table A6, "sigmoid"; the start makes a product of zero an entry of zero."""
    alpha, beta, gamma = (1, 1, -0.5) if coefficients is None else coefficients
    return alpha / (1 + torch.exp(-beta * (B @ A.T))) + gamma


def rbf(A: Tensor, B: Tensor, coefficients: Tensor | None) -> Tensor:
    """Table A6, "RBF"; the start makes a distance of zero an entry of zero."""
    alpha, beta, gamma = (1, 1, -1) if coefficients is None else coefficients
    differences = B[:, None, :] - A[None, :, :]
    return alpha * torch.exp(-beta * differences.square().sum(-1)) + gamma


def mixed(A: Tensor, B: Tensor, P: int, coefficients: Tensor | None) -> Tensor:
    """The kernel of SNELLA: the outputs of one input share a softmax."""
    alpha, beta, gamma = (1, 0, 1) if coefficients is None else coefficients
    D = piecewise_linear(A, B, P)
    return D + alpha * torch.exp(torch.log_softmax(D / gamma, dim=0)) + beta


def kernel_matrix(
    A: Tensor, B: Tensor, kernel: str, P: int = 2, coefficients: Tensor | None = None
) -> Tensor:
    """The matrix `(m, n)` before sparsification, of the kernel of that name."""
    if kernel == "piecewise_linear":
        return piecewise_linear(A, B, P, coefficients)
    if kernel == "mixed":
        return mixed(A, B, P, coefficients)
    if kernel == "linear":
        return linear(A, B)
    return {"sigmoid": sigmoid, "rbf": rbf}[kernel](A, B, coefficients)


def tau(w: Tensor, s: float) -> Tensor:
    """Magnitude of the ⌈s·mn⌉-th smallest |w|, by sorting everything."""
    removed = math.ceil(round(s * w.numel(), 6))
    magnitudes = w.detach().abs().flatten().sort().values
    return magnitudes[removed - 1]


def sparsify(w: Tensor, s: float, sparsifier: str) -> Tensor:
    """The sparse update; every threshold and gate that is held constant is detached here."""
    if s == 0 or sparsifier == "none":
        return w
    threshold = tau(w, s)
    a = w.detach().abs()
    survives = (a > threshold).to(w.dtype)
    if sparsifier == "released":
        return w * (a * survives)
    if sparsifier == "paper":
        return w * torch.clamp(w.abs() - threshold, min=0)
    if sparsifier == "hard":
        return w * survives
    raise ValueError(f"unknown sparsifier {sparsifier!r}: known: released, paper, hard, none")


def reference_delta(
    A: Tensor,
    B: Tensor,
    *,
    s: float,
    kernel: str,
    sparsifier: str,
    P: int = 2,
    coefficients: Tensor | None = None,
) -> Tensor:
    r"""The update $\Delta W$ `(m, n)`, differentiable in both factors.

    Args:
        A: Input side, `(n, r)`.
        B: Output side, `(m, r)`.
        s: Share of entries removed.
        kernel: `"piecewise_linear"`, `"linear"`, `"sigmoid"`, `"rbf"` or `"mixed"`.
        sparsifier: `"released"`, `"paper"`, `"hard"` or `"none"`.
        P: Chunks of the kernels of distances.
        coefficients: The kernel's scalars, in alphabetical order; `None` for its start.

    Returns:
        The update, with autograd's graph.

    Examples:
        >>> import torch
        >>> from snell_layers.reference import reference_delta
        >>> A, B = torch.rand(6, 4), torch.rand(5, 4)
        >>> delta = reference_delta(A, B, s=0.5, kernel="linear", sparsifier="hard")
        >>> int(delta.count_nonzero())
        15
    """
    return sparsify(kernel_matrix(A, B, kernel, P, coefficients), s, sparsifier)


class SnellLinearReference(nn.Module):
    """A frozen linear layer and a second branch with the update; nothing merged, nothing saved on.

    Args:
        weight: $W_0$, `(m, n)`.
        bias: `(m,)` or `None`.
        A: Initial input-side factors, `(n, r)`; copied.
        B: Initial output-side factors, `(m, r)`; copied.
        s: Share of entries removed.
        kernel: As in `reference_delta`.
        sparsifier: As in `reference_delta`.
        P: Chunks of the kernels of distances.
        coefficients: Initial scalars of the kernel, trained; copied. `None` holds its start.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        A: Tensor,
        B: Tensor,
        *,
        s: float,
        kernel: str,
        sparsifier: str,
        P: int = 2,
        coefficients: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.weight, self.bias = weight.detach().clone(), bias
        self.A, self.B = nn.Parameter(A.detach().clone()), nn.Parameter(B.detach().clone())
        scalars = None if coefficients is None else nn.Parameter(coefficients.detach().clone())
        self.register_parameter("coefficients", scalars)
        self.options = {"s": s, "kernel": kernel, "sparsifier": sparsifier, "P": P}

    def delta(self) -> Tensor:
        """The update `(m, n)`."""
        return reference_delta(self.A, self.B, coefficients=self.coefficients, **self.options)

    def forward(
        self, x: Tensor, dropout: Tensor | float = 1.0, drop_path: Tensor | float = 1.0
    ) -> Tensor:
        """`(..., n)` to `(..., m)`; the masks hold 0 or 1 / (1 - p), one for x, one for samples."""
        branch = F.linear(x * dropout, self.delta())
        return F.linear(x, self.weight, self.bias) + drop_path * branch
