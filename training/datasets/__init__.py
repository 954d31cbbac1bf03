"""Labelled items: the IMDB reviews, any table with a text and a label column, and pictures or
sounds in a folder a class.

Every data set comes in three splits. `train` is learnt from, `validation` (cut from the training
examples) decides when to stop, `test` is looked at once, at the end.
"""
