"""Mistakes that ports of optimisers and training loops are known to make; each must be seen."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

import jaxrnn
from jaxrnn import losses, optim

from ..texts.optimisers import OPTIONS, SCHEDULES, words
from .plant import Change, Function, Mistake, instead, with_inputs
from .texts import clip_each, clip_without_eps, less_patient, optimizer, planted, recipe


def of_options(row: str, i: int, wrong: Change, how: str = "") -> Mistake:
    """Planted in the pair of a row's options number `i`."""
    return planted(row, words((OPTIONS | SCHEDULES)[row][i]) + how, wrong)


def first_buffer_damped(lr: Any, momentum: Any, dampening: Any) -> Any:
    return optax.chain(optax.scale(1 - dampening), optim.sgd(lr, momentum=momentum))


def decay_after_momentum(lr: Any, momentum: Any, weight_decay: Any) -> Any:
    decay = optax.add_decayed_weights(weight_decay)
    return optax.chain(optax.trace(momentum), decay, optim.sgd(lr))


def late_eps(lr: Any, betas: Any, eps: Any, weight_decay: Any, **_: Any) -> Any:
    decay = optax.add_decayed_weights(weight_decay)
    return optax.chain(optax.scale_by_radam(*betas, eps=eps), decay, optim.sgd(lr))


def rates_late(right: Function, lr: Any, **options: Any) -> Any:
    schedule = right(lr, **options)
    return lambda count: schedule(jnp.maximum(count - 1, 0))


def stays_at_its_minimum(right: Function, lr: Any, T_max: Any) -> Any:
    return optax.cosine_decay_schedule(lr, T_max)


def no_cooldown(right: Function, lr: Any, cooldown: int, **options: Any) -> Any:
    return right(lr, **options)


def broadcast(prediction: Any, y: Any) -> Any:
    """(N, 1) against (N,)."""
    return jnp.square(prediction[:, None] - y).mean()


def softmax_twice(right: Any) -> Function:
    loss = lambda logits, y: right.args[0].jax_loss(jax.nn.softmax(logits), y)
    return recipe(jax_loss=loss)(right)


def without_the_last_batch(right: Any) -> Function:
    batches = [epoch[:-1] for epoch in right.args[0].batches]
    return recipe(batches=batches)(right)


def same_mask_at_every_step(masks: Any, **_: Any) -> Any:
    return jnp.broadcast_to(masks[:1, :1], masks.shape)


def moments_dropped(right: Any) -> Function:
    """After each epoch."""

    def call(params: Any, **inputs: Any) -> Any:
        names, histories, final = list(jaxrnn.to_state_dict(params)), [], []
        for epoch in right.args[0].batches:
            history, final = recipe(batches=[epoch])(right)(params, **inputs)
            params = jaxrnn.from_state_dict(dict(zip(names, final, strict=True)))
            histories.append(history)
        return [jnp.concatenate(column) for column in zip(*histories, strict=True)], final

    return call


sentiment = functools.partial(planted, "1.13", "the training loop, 10 epochs")
MISTAKES = {
    "momentum's first buffer damped": of_options("SGD", 2,
        optimizer("SGD", first_buffer_damped)),
    "decay after momentum": of_options("SGD", 1, optimizer("SGD", decay_after_momentum)),
    "Adam's eps in the root": of_options("Adam", 1, optimizer("Adam",
        lambda lr, betas, eps: optax.adam(lr, *betas, eps=0.0, eps_root=eps**2))),
    "Adam's decay decoupled": of_options("Adam", 2, optimizer("Adam", optim.adamw)),
    "AdamW's decay as L2": of_options("AdamW", 1, optimizer("AdamW", optim.adam)),
    "AdamW with optax's default decay": of_options("AdamW", 0, optimizer("AdamW",
        lambda lr, betas: optax.adamw(lr, *betas))),
    "NAdam without its momentum's decay": of_options("NAdam", 0, optimizer("NAdam",
        lambda lr, betas: optax.nadam(lr, *betas))),
    "RAdam's eps after the bias correction": of_options("RAdam", 2,
        optimizer("RAdam", late_eps)),
    "Adagrad with optax's defaults": of_options("Adagrad", 0, optimizer("Adagrad",
        lambda lr: optax.adagrad(lr))),
    "RMSprop with optax's defaults": of_options("RMSprop", 0, optimizer("RMSprop",
        lambda lr, alpha: optax.rmsprop(lr))),
    "clipping without its 1e-6": of_options("Adagrad", 0,
        instead(optim, "clip_grad_norm", clip_without_eps), ", clipped by norm"),
    "each parameter clipped by its own norm": of_options("RMSprop", 0,
        instead(optim, "clip_grad_norm", clip_each), ", clipped by norm"),
    "a rate one epoch late": of_options("StepLR", 0, instead(optim, "step_lr", rates_late)),
    "the cosine stays at its minimum": of_options("CosineAnnealingLR", 0,
        instead(optim, "cosine_annealing_lr", stays_at_its_minimum)),
    "plateau one epoch less patient": of_options("ReduceLROnPlateau", 0,
        instead(optim, "reduce_lr_on_plateau", less_patient)),
    "plateau without its cooldown": of_options("ReduceLROnPlateau", 1,
        instead(optim, "reduce_lr_on_plateau", no_cooldown)),
    "moments dropped after each epoch": planted("0.12", "20 epochs", moments_dropped),
    "the last, smaller batch left out": planted("0.12", "20 epochs", without_the_last_batch),
    "the same dropout mask at every step": planted("1.9", "the training function, 40 epochs",
        with_inputs(masks=same_mask_at_every_step)),
    "clipped by optax": sentiment(instead(optim, "clip_grad_norm", clip_without_eps)),
    "cross-entropy's arguments swapped": sentiment(recipe(
        jax_loss=lambda p, y: losses.binary_cross_entropy(y.astype(p.dtype), p))),
    "softmax before the cross-entropy": planted("2.4", "10 epochs", softmax_twice),
    "(N, 1) against (N,) in the loss": planted("4.1", "100 epochs", recipe(jax_loss=broadcast)),
}  # fmt: skip
