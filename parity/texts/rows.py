"""The rows of the texts: each system's name there, and its pairs.

A system that a text describes is a row, such as 1.8: the eighth of text 001.
"""

from ..pair import Pair
from . import models, preparation, sequences, trainings


TEXTS = {
    "0.1": "SimpleRNNCell",
    "0.2": "BasicRNN",
    "0.3": "sine-wave prediction",
    "0.4": "LSTMModel",
    "0.5": "GRUModel",
    "0.6": "BidirectionalRNN",
    "0.7": "TextPreprocessor",
    "0.8": "TextClassificationRNN",
    "0.9": "gradient clipping, Xavier init",
    "0.10": "batching, shuffling, LR schedule",
    "0.11": "long sequences",
    "0.12": "monitored training",
    "1.1": "nn.RNNCell and a 2-layer nn.RNN",
    "1.2": "nn.LSTM with (h0, c0)",
    "1.3": "LSTMClassifier",
    "1.4": "BiLSTMClassifier",
    "1.5": "nn.GRU, GRUClassifier",
    "1.6": "Encoder, Decoder, Seq2Seq",
    "1.7": "Attention",
    "1.8": "AttentionDecoder",
    "1.9": "LSTMForecaster, its training function",
    "1.10": "PackedLSTM",
    "1.11": "variable-length collate",
    "1.12": "LSTMWithLayerNorm",
    "1.13": "SentimentDataset, SentimentLSTM, its training loop",
    "2.1": "SimpleRNN, MultiLayerRNN",
    "2.2": "RNNWithCell",
    "2.3": "MultiLayerRNNCell",
    "2.4": "text-classification training",
    "3.1": "nn.RNN(nonlinearity=)",
    "3.2": "data preparation",
    "3.3": "losses and optimisers",
    "3.4": "hyper-parameter search",
    "4.1": "noisy-sine forecasting",
    "4.2": "plots",
}


def pairs() -> list[Pair]:
    """All pairs, in the order of `TEXTS`; every row has at least one."""
    modules = (models, sequences, trainings, preparation)
    order = list(TEXTS)
    every = [pair for module in modules for pair in module.pairs()]
    return sorted(every, key=lambda pair: order.index(pair.group))
