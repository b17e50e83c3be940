"""Quantiles of Student's distribution, for intervals from few units."""

Z975 = 1.959963984540054
_FEW = (12.7062, 4.3027, 3.1824)


def t975(degrees: int) -> float:
    """The 97.5% quantile of Student's t; exact to three digits for 1 to 3 degrees of freedom.

    From 4 on by Fisher's expansion in 1/degrees (Abramowitz and Stegun 26.7.5), good to 0.002.
    """
    if degrees < 1:
        return float("inf")
    if degrees <= len(_FEW):
        return _FEW[degrees - 1]
    z, v = Z975, float(degrees)
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * v**4)
    )
