"""AlpacaEval's published files: annotations as verdicts, and its regression's fixed inputs.

A preference lies in [1, 2]: 1 the baseline is better, 2 the model is, 1.5 a tie; 0 is the older
word for a tie, and a missing one or -1 means that the annotator failed.
"""
