"""Popular claims as data: what is said, the number that was measured, and the verdict that a rule draws from it.

A claim stands in the `claims.toml` of its chapter, its measurement is a function in the chapter's `evidence.py`:

    [G2]
    statement.zh, .en      what is said, in our own words
    source                 which source text says it, and where
    evidence               a function in evidence.py giving a DataFrame: `setting`, `value`, and `seed` (or repetition)
                           where numbers are random; `edge` (optional): a best value was at the edge of its grid
    number.zh, .en         what `value` is, with its unit
    format                 how it is printed, "{:.2f}"; "10^{:.0f}" for a logarithm
    holds_between          [low, high]: the values for which the claim holds
    conditions.zh, .en     under which it was measured: depth, width, initialisation, seeds, biases …
    consequence.zh, .en    what to do, in one sentence
    timed                  true where the evidence measures time: then nothing else is measured beside it
    [G2.settings.NAME]     zh, en: a setting of the evidence, in words that go into 只在…时成立 and "holds only …"; its
                           own `holds_between` and `format`, if need be

The rule. In one setting the claim holds where the whole 95% interval of the mean over the seeds lies within
`holds_between`, and does not where all of it lies outside; anything else is not settled, and so are fewer than three
seeds and a best value at the edge of its grid. All settings together: holds if it does in all, false if it does in
none, not settled if none is, and else holds only in those where it does. An entry without evidence is not a measurable
claim.
"""

from .cards import Card, card
from .court import Court, court
from .docket import Docket, EvidenceFailed, hear, sit, sources
from .ledger import Claim, Setting, claims, find
from .verdicts import FEWEST_SEEDS, VERDICTS, Measured, Verdict, measure, tally, verdict

__all__ = [
    "FEWEST_SEEDS",
    "VERDICTS",
    "Card",
    "Claim",
    "Court",
    "Docket",
    "EvidenceFailed",
    "Measured",
    "Setting",
    "Verdict",
    "card",
    "claims",
    "court",
    "find",
    "hear",
    "measure",
    "sit",
    "sources",
    "tally",
    "verdict",
]
