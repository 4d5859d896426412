"""The generating process of the synthetic corpora: latent emotion -> evidence of each modality -> frames.

Shapes: N samples, M = 3 modalities, C latent dimensions, K = 2 C + 2 evidence coordinates, T frames of all samples one
after the other, D width.

Latent:    z = sqrt(shared) g + sum_m sqrt(private_m) r_m + sqrt(unexplained) e      all N(0, 1)
Evidence:  shared view  s_m = k_m g   + tau_m shared_noise_m n
           private view p_m = k_m r_m + tau_m private_noise_m n'
           cue          q_m = cue [modality m contradicts] + n''
           and tau_m itself; k_m is -1 where modality m contradicts, else 1
Frames:    x_j = gain c_j (1, evidence) B + drift h_j H + group u_video U + white n'''     c_j: does frame j carry it?
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mer_lightning.errors import Refusal

Floats = NDArray[np.float64]
Triple = tuple[float, float, float]  # one number each for text, audio, vision


@dataclass(frozen=True)
class Process:
    """All constants. Shares are of the latent's variance. Noises are deviations, relative to a signal of deviation 1.

    They are chosen so that text alone gives good scores and all three modalities clearly better ones, that no modality
    is useless, and that a linear model of mean features stays well below the best possible score.
    """

    shared: float = 0.50  # shown by every modality, with more or less noise
    private: Triple = (0.20, 0.13, 0.09)  # shown by that modality only
    shared_noise: Triple = (0.35, 0.7, 0.9)
    private_noise: Triple = (0.3, 0.4, 0.5)
    noise_levels: Triple = (0.6, 1.0, 1.6)  # tau: equally likely, drawn for each sample and modality; features show it
    contradicting: float = 0.15  # samples of which exactly one modality shows the mirrored emotion
    contradicting_odds: Triple = (0.30, 0.35, 0.35)  # which one
    cue: float = 1.5  # shift of the cue of a contradicting modality, in standard deviations of the cue
    carrying: float = 0.4  # frames that carry evidence
    gain: float = 2.0
    drift: float = 0.7  # slow noise, in 8 directions
    group: float = 0.3  # offset common to a video or dialogue, in 4 directions; it depends on no emotion
    white: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what is no process: every message names the constant."""
        for name in ("contradicting", "carrying"):
            if not 0 <= getattr(self, name) <= 1:
                raise Refusal(f"process, {name}", "a share, 0 to 1", str(getattr(self, name)), "choose another")
        if min(self.shared, *self.private) < 0 or self.shared + sum(self.private) > 1 + 1e-9:
            found = f"shared {self.shared}, private {self.private}"
            remedy = "lower one of them; what they leave of 1 is what no feature shows"
            raise Refusal("process, shared and private", "shares of at most 1 together", found, remedy)
        for name in ("shared_noise", "private_noise", "noise_levels"):
            if min(getattr(self, name)) <= 0:
                raise Refusal(f"process, {name}", "numbers above 0", str(getattr(self, name)), "choose small ones")
        if min(self.contradicting_odds) < 0 or abs(sum(self.contradicting_odds) - 1) > 1e-9:
            found, remedy = str(self.contradicting_odds), "change one of them"
            raise Refusal("process, contradicting_odds", "three shares with the sum 1", found, remedy)

    @property
    def unexplained(self) -> float:
        """The share of the latent that no feature shows, as if raters disagreed."""
        return max(1 - self.shared - sum(self.private), 0.0)


@dataclass(frozen=True)
class Evidence:
    """All information on the emotion that the features contain."""

    shared: Floats  # (N, M, C)
    private: Floats  # (N, M, C)
    cue: Floats  # (N, M)
    level: Floats  # (N, M): tau

    def rows(self, chosen: NDArray[np.bool_]) -> Evidence:
        return Evidence(self.shared[chosen], self.private[chosen], self.cue[chosen], self.level[chosen])

    def coordinates(self, process: Process, modality: int) -> Floats:
        """(N, K): the evidence of one modality as it is mixed into its frames, each coordinate of deviation about 1."""
        shared = self.shared[:, modality] / np.hypot(1, process.shared_noise[modality])
        private = self.private[:, modality] / np.hypot(1, process.private_noise[modality])
        loudness = np.log(self.level[:, modality]) / np.log(process.noise_levels).std()
        return np.column_stack([shared, private, self.cue[:, modality], loudness])


def draw_evidence(
    process: Process, samples: int, latent_dims: int, random: np.random.Generator
) -> tuple[Floats, Evidence, NDArray[np.int64]]:
    """(N, C) latents, their evidence, and (N,) the modality that contradicts, -1 for none."""
    common = random.standard_normal((samples, latent_dims))
    own = random.standard_normal((samples, 3, latent_dims))
    residue = random.standard_normal((samples, latent_dims))
    latent = (
        np.sqrt(process.shared) * common
        + np.einsum("m,nmc->nc", np.sqrt(process.private), own)
        + np.sqrt(process.unexplained) * residue
    )
    who = random.choice(3, samples, p=process.contradicting_odds)
    contradicting = np.where(random.random(samples) < process.contradicting, who, -1)
    contradicts = contradicting[:, None] == np.arange(3)
    sign = np.where(contradicts, -1.0, 1.0)[:, :, None]
    level = random.choice(process.noise_levels, (samples, 3))

    def view(of: Floats, noise: Triple) -> Floats:
        deviation = (level * noise)[:, :, None]
        return sign * of + deviation * random.standard_normal((samples, 3, latent_dims))

    shared = view(common[:, None, :], process.shared_noise)
    private = view(own, process.private_noise)
    cue = process.cue * contradicts + random.standard_normal((samples, 3))
    return latent, Evidence(shared, private, cue, level), contradicting


def draw_carrying(process: Process, lengths: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.bool_]:
    """(T,) which frames carry evidence: each with the probability `carrying`, and at least one frame of each sample."""
    carries = random.random(int(lengths.sum())) < process.carrying
    starts = np.cumsum(lengths) - lengths
    carries[starts + random.integers(0, lengths)] = True
    return carries


def draw_frames(
    process: Process,
    coordinates: Floats,
    lengths: NDArray[np.int64],
    groups: NDArray[np.int64],
    carries: NDArray[np.bool_],
    width: int,
    random: np.random.Generator,
) -> NDArray[np.float32]:
    """(T, D) frames of one modality: evidence in the frames that carry it, plus drift, effects of the video and noise.

    The first of the orthonormal directions marks the frames that carry evidence, so that attention can select them; in
    a mean over all frames the evidence becomes weak. Products use einsum, because the last bit of a product of BLAS
    depends on the number of threads.
    """
    samples, known = coordinates.shape
    frames_in_all = int(lengths.sum())
    sample = np.repeat(np.arange(samples), lengths)

    evidence = np.column_stack([np.ones(samples), coordinates]).astype(np.float32)
    directions = _orthonormal(random.standard_normal((known + 1, width))).astype(np.float32)
    per_sample = np.float32(process.gain) * np.einsum("nk,kd->nd", evidence, directions)

    sources = random.standard_normal((frames_in_all + 2, 8), dtype=np.float32)
    drift = (sources[:-2] + sources[1:-1] + sources[2:]) / np.float32(np.sqrt(3))
    effects = random.standard_normal((int(groups.max()) + 1, 4), dtype=np.float32)
    per_group = np.einsum("gf,fd->gd", effects, _scaled(random, 4, width, process.group))

    values = random.standard_normal((frames_in_all, width), dtype=np.float32)
    values *= np.float32(process.white)
    values += np.einsum("tf,fd->td", drift, _scaled(random, 8, width, process.drift))
    values += per_group[groups][sample]
    values[carries] += per_sample[sample[carries]]
    return values


def _orthonormal(rows: Floats) -> Floats:
    """The rows, made orthogonal to each other one after the other (Gram-Schmidt) and scaled to length 1."""
    done = np.empty_like(rows)
    for i, row in enumerate(rows):
        rest = row - np.einsum("k,kd->d", np.einsum("kd,d->k", done[:i], row), done[:i])
        done[i] = rest / np.sqrt(np.einsum("d,d->", rest, rest))
    return done


def _scaled(random: np.random.Generator, factors: int, width: int, deviation: float) -> NDArray[np.float32]:
    """A mixing matrix that turns unit factors into features of ``deviation``."""
    matrix = random.standard_normal((factors, width), dtype=np.float32)
    return matrix * np.float32(deviation / np.sqrt(factors))


def draw_lengths(
    samples: int,
    words: tuple[float, float],
    longest: tuple[int, int, int],
    aligned: bool,
    random: np.random.Generator,
) -> list[NDArray[np.int64]]:
    """Lengths per modality: log-normal for text.

    Audio and vision have the same lengths in an aligned corpus, and else lengths about proportional to those of text.
    """
    text = np.clip(np.rint(random.lognormal(*words, samples)), 2, longest[0])
    # At 0.6 of the rate at which the longest text would fill them, only some samples reach the longest audio or vision.
    rates = [1.0 if aligned else 0.6 * most / longest[0] for most in longest[1:]]
    others = [
        text if aligned else np.clip(np.rint(text * rate * random.lognormal(0.0, 0.25, samples)), 2, most)
        for rate, most in zip(rates, longest[1:], strict=True)
    ]
    return [lengths.astype(np.int64) for lengths in (text, *others)]
