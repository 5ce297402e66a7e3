"""Whole models: embedding, recurrent layers, pooling over time, a head; and sequence to sequence.

Parameters lie under the names that PyTorch texts give their modules (`embedding`, `lstm`, `fc`), so
that a `state_dict` loads as it is. Everything is batch first, as there. What a class of the texts
is called here:

=========================================  =======================================================
in torch                                   in jaxrnn, after `from_state_dict`
=========================================  =======================================================
`SimpleRNN`, `BasicRNN`, `MultiLayerRNN`,  `sequence_model(params, x, pool="last_step")`
`LSTMModel`, `GRUModel`, `LSTMForecaster`
`BidirectionalRNN` with `out[:, -1]`       `sequence_model(params, x, pool="last_step")`;
                                           `pool="last_state"` is what was probably meant
`LSTMForecaster` in training               likewise, and `dropout=0.2, key=key`
`GRUClassifier`: `hidden[-1]`              `sequence_model(params, x, dropout=0.3, key=key)`
`LSTMClassifier`, `BiLSTMClassifier`       `sequence_model(params, ids, dropout=0.3,
                                           head_dropout=0.5, key=key)`; with `lengths=lengths`
                                           padding takes no part, as was probably meant
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

Without a `key` there is no dropout, which is torch's `eval()`. With `lengths`, padding takes no
part in anything; a text's model without packing is had by leaving them out.
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
