"""Whole models: embedding, recurrent layers, pooling over time, a head; and sequence to sequence.

Parameters have the names that PyTorch texts give their modules (`embedding`, `lstm`, `fc`), so a
`state_dict` loads as it is. Everything is batch first, as in the texts. Their classes are here:

=========================================  =======================================================
in torch                                   in jaxrnn, after `from_state_dict`
=========================================  =======================================================
`SimpleRNN`, `BasicRNN`, `MultiLayerRNN`,  `sequence_model(params, x, pool="last_step")`
`LSTMModel`, `GRUModel`, `LSTMForecaster`
`BidirectionalRNN` with `out[:, -1]`       `sequence_model(params, x, pool="last_step")`;
                                           `pool="last_state"` is probably what is meant
`LSTMForecaster` in training               the same with `dropout=0.2, key=key`
`GRUClassifier`: `hidden[-1]`              `sequence_model(params, x, dropout=0.3, key=key)`
`LSTMClassifier`, `BiLSTMClassifier`       `sequence_model(params, ids, dropout=0.3,
                                           head_dropout=0.5, key=key)`; with `lengths=lengths`
                                           padding takes no part, as is probably meant
`PackedLSTM`                               `sequence_model(params, ids, lengths=lengths)`
`TextClassificationRNN`                    `text_classifier(params, ids, lengths=lengths, key=key)`
`SentimentLSTM`                            `sentiment_classifier(params, ids, lengths, key=key)`
`RNNWithCell`, `MultiLayerRNNCell`         `cell_model(params, x)`
`SimpleRNNCell`                            `simple_rnn_cell(params, x, h)`
`LSTMWithLayerNorm`                        `layer_norm_lstm(params, x)`
`Encoder`, `Decoder`, `AttentionDecoder`   `encoder`, `decoder_step`
`Seq2Seq`, `Attention`                     `seq2seq`, `memory` and `attention`; then `greedy`,
                                           `beam_search`
=========================================  =======================================================

Without a `key` there is no dropout, as after torch's `eval()`. With `lengths`, padding takes no
part in anything; leave them out for a text's model that does not pack.
"""

from ._attention import Memory, attention, memory
from ._cell_models import cell_model, init_cell_model, init_simple_rnn_cell, simple_rnn_cell
from ._classifiers import (
    init_sentiment_classifier,
    init_text_classifier,
    sentiment_classifier,
    text_classifier,
)
from ._decode import Decoded, beam_search, greedy
from ._layer_norm_lstm import init_layer_norm_lstm, layer_norm_lstm
from ._seq2seq import decoder_step, encoder, init_seq2seq, seq2seq
from ._sequence_model import DropoutMasks, init_sequence_model, sequence_model


__all__ = [
    "Decoded",
    "DropoutMasks",
    "Memory",
    "attention",
    "beam_search",
    "cell_model",
    "decoder_step",
    "encoder",
    "greedy",
    "init_cell_model",
    "init_layer_norm_lstm",
    "init_sentiment_classifier",
    "init_seq2seq",
    "init_sequence_model",
    "init_simple_rnn_cell",
    "init_text_classifier",
    "layer_norm_lstm",
    "memory",
    "sentiment_classifier",
    "seq2seq",
    "sequence_model",
    "simple_rnn_cell",
    "text_classifier",
]
