"""What the configuration says of each asset beyond its numbers: the smallest sum worth sending, and tiers of
confirmations. Read against the asset's chain, since neither means anything without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from astrapayd.chains import Chain, ChainRegistry, Depth, Tier
from astrapayd.config import AssetSection, Config, Problem, TierSection
from astrapayd.money import AmountError, Asset, parse_amount


@dataclass(frozen=True, slots=True)
class AssetRules:
    """By asset id: ``minimums`` in base units, ``tiers`` with the smallest sum first."""

    minimums: Mapping[str, int]
    tiers: Mapping[str, Sequence[Tier]]


def read_asset_rules(config: Config, registry: ChainRegistry) -> tuple[AssetRules, list[Problem]]:
    """The rules of every usable asset, and what is wrong with the others."""
    minimums: dict[str, int] = {}
    tiers: dict[str, Sequence[Tier]] = {}
    problems: list[Problem] = []
    for asset in registry.assets():
        section, key = config.assets[asset.id], f"assets.{asset.id}"
        try:
            minimums[asset.id] = parse_amount(section.minimum, asset.decimals)
        except AmountError as error:
            problems.append(Problem(f"{key}.minimum", str(error)))
        tiers[asset.id] = _tiers(section, asset, registry[asset.chain], key, problems)
    return AssetRules(minimums, tiers), problems


def _tiers(section: AssetSection, asset: Asset, chain: Chain, key: str, problems: list[Problem]) -> Sequence[Tier]:
    found: list[Tier] = []
    for i, written in enumerate(section.tiers):
        place = f"{key}.tiers[{i}]"
        try:
            from_base = parse_amount(written.at_least, asset.decimals)
        except AmountError as error:
            problems.append(Problem(f"{place}.at_least", str(error)))
            continue
        depth, before = _depth(written, chain), found[-1] if found else Tier(0, chain.confirmations)
        if found and from_base <= before.from_base:
            problems.append(Problem(f"{place}.at_least", "is not above the tier before: write the smallest sum first"))
        elif not _is_deeper(depth, before.depth):
            problems.append(
                Problem(
                    f"{place}.confirmations",
                    f"is less than the {before.depth.label} that smaller sums wait for: write more, or leave it out",
                )
            )
        found.append(Tier(from_base, depth))
    return found


def _depth(written: TierSection, chain: Chain) -> Depth:
    if isinstance(written.confirmations, int):
        return Depth.of_blocks(written.confirmations)
    return chain.final


def _is_deeper(depth: Depth, before: Depth) -> bool:
    """What the node calls final is as deep as it gets; a number of blocks cannot be compared with it."""
    if depth.blocks is None:
        return True
    return before.blocks is not None and depth.blocks >= before.blocks
