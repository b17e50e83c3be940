"""From the probabilities of the label tokens to a verdict."""

from collections.abc import Mapping

from schemas.labels import LabelProbabilities, Preference, Unscored, Verdict


def verdict_of_masses(masses: Mapping[Preference, float], min_label_mass: float) -> Verdict:
    """Probabilities over the labels, with the mass that they had together before.

    Unscored where a model would rather have said something else: `no_label_mass`,
    `low_label_mass`.
    """
    total = sum(masses.values())
    if not total > 0:  # also where a probability is not a number
        return Unscored("no_label_mass", "the label tokens have no probability at all")
    if total < min_label_mass:
        return Unscored("low_label_mass", f"A, B and Tie have probability {total:.3g} together")
    likeliest = max(masses, key=lambda label: (masses[label], label.value))
    return LabelProbabilities(
        p_a=masses[Preference.A] / total,
        p_b=masses[Preference.B] / total,
        p_tie=masses[Preference.TIE] / total,
        label_mass=min(1.0, total),
        raw=likeliest.value,
    )
