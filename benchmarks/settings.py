"""Named settings that latency is measured in: paces of the engines and links, each with what is done to them.

Paced engines hold every step to a time, so that one machine plays any hardware's proportions. The paper's times are for
blocks of four tokens, and are played `scale` times as long: the proportions stay, the run gets shorter.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgespec.sim.emulated_link import LinkShape


@dataclass(frozen=True)
class LatencySetting:
    """One link and two paced engines (milliseconds; None: at full speed), before scaling; what is broken in them.

    wrong_draft: the share of the draft's choices that are made wrong. server_draft_ms: of a draft that the server
    hosts; None: it hosts none. modes: those that are played in this setting; none: those asked for.
    """

    name: str
    source: str
    draft_ms: float | None
    forward_ms: float | None
    rtt_ms: float
    scale: float = 1.0
    jitter_ms: float = 0.0
    mbps: float | None = None
    wrong_draft: float = 0.0
    wrong_exits: bool = False
    server_draft_ms: float | None = None
    modes: tuple[str, ...] = ()

    @property
    def link(self) -> LinkShape:
        return LinkShape(self.rtt_ms * self.scale, self.jitter_ms * self.scale, self.mbps)

    def scaled(self, milliseconds: float | None) -> float | None:
        return None if milliseconds is None else round(milliseconds * self.scale, 3)


PAPER = "arXiv 2505.21594, table of the draft's, the target's and the network's time, blocks of four"

ORIN = LatencySetting("a100-orin", "a 7B target on an A100, Vicuna-68M on an Orin", 6.0, 28.0, 0.0)

SETTINGS: dict[str, list[LatencySetting]] = {
    "paper-jetson": [LatencySetting("paper-jetson", PAPER, 301 / 4, 522.0, 96.0, scale=0.2)],
    "paper-rtx": [LatencySetting("paper-rtx", PAPER, 99 / 4, 467.0, 47.0, scale=0.2)],
    "go2": [LatencySetting("go2", PAPER, 288 / 4, 620.0, 120.0, scale=0.2)],
    "a100-orin": [replace(ORIN, rtt_ms=rtt_ms) for rtt_ms in (0.0, 10.0, 20.0, 40.0, 80.0, 160.0)],
    "rough-link": [replace(ORIN, name="rough-link", rtt_ms=40.0, jitter_ms=20.0, mbps=1.0)],
    "acceptance": [replace(ORIN, name="acceptance", rtt_ms=20.0, wrong_draft=share) for share in (0.25, 0.5)],
    "wrong-draft": [replace(ORIN, name="wrong-draft", rtt_ms=20.0, wrong_draft=1.0)],
    "wrong-exits": [replace(ORIN, name="wrong-exits", rtt_ms=20.0, wrong_exits=True)],
    "hosted-draft": [
        replace(
            ORIN,
            name="hosted-draft",
            rtt_ms=rtt_ms,
            server_draft_ms=1.5,
            modes=("cloud", "colocated", "auto"),
        )
        for rtt_ms in (0.0, 40.0, 160.0)
    ],
    "unpaced": [
        LatencySetting("unpaced", "this machine at full speed", None, None, rtt_ms)
        for rtt_ms in (0.0, 20.0, 40.0)
    ],
}
