"""FLOPs and memory traffic of one training step, counted by the walk over the layers.

The rules, for a batch of N images and activations of e bytes (fp32: 4, bf16: 2). Of a layer, x is
its input map, N x inputs x H x W elements; y its output map; w its weights. A map costs e bytes
an element each time it is read, and again each time it is written.

FLOPs: a multiply-accumulate is two. Forward 2 N MACs (`space.count`); gradients by weight as many,
by input as many; none by input where the input is the image. Norms, activations, pooling, biases,
additions and the optimiser are not counted.

Unfused, every operation is a pass of its own, as eager PyTorch computes it:

    operation    forward                          backward
    conv, linear x + w + y                        by weight x + y + w, by input y + w + x (image: 0)
    norm         y for its mean and variance,     its input and gradient twice, once for their
                 then y + y: 3 y                  sums; writes one: 5 y
    activation   2 y                              kept map, gradient, new gradient: 3 y
    se           mean x, product x + y, w         product x + y + x, mean x, their sum 3 x, 2 w
    shuffle      x + y                            y + x
    gate         activation 2 y, product 3 y      of the product 5 y, of the activation 3 y, both
                                                  gradients side by side 2 x
    cheap        convolution x -> x, 2 y to join  as a convolution; the two gradients of x 3 x
    split        convolutions of 3/4 of x and y,  as convolutions; gradients side by side 2 x
                 2 y to join
    maxpool      x + y + places (8 bytes each)    y + places + x
    avgpool      x + y                            y + x
    add          both operands + y: 3 y           where two gradients of the block's input meet: 3 x
                                                  (of the image: 0)

Fused, a convolution's norm, activation and shuffle are applied where its output is read: in the
forward pass each output is written once and read once by whoever comes next. One kernel computes
both gradients of a convolution, turns the gradient of the activation into that of the raw output
on the way in, and collects the sums that the norm in front of it needs on the way out:

    conv, linear x + w + y                        y (gradient), y (kept; 0 without norm and
                                                  activation), x, w, writes w and x (image: w)
    norm, activation, shuffle: 0
    gate         x + y                            y + 2 x
    cheap, split x + w + y                        y, y (kept), x, w, writes w and x
    se           x for its mean, w                x + y: its own sums before the norm's; 2 w
    maxpool      x + y                            y + 2 x: finds the places again
    avgpool      x + y                            y + 2 x: collects the sums of the norm
    add          3 y                              2 y for the norm of the body (3 y: of a shortcut
                                                  too); the input's other gradient x (image: 0)

The optimiser, 4 bytes a parameter: reads parameter, gradient and s states, writes parameter and
states (3 + 2 s; SGD with momentum: s = 1, without: 0, Adam: 2); the average is read and written
and the parameter read again (3; fused 2). In bf16 a step also casts weights (reads 4, writes 2
bytes) and their gradients back (reads 2, writes 4). A batch is counted as if nothing of it
outlived a layer in a cache.

Not counted: views, normalisation of the input, the loss; vectors of one value a channel (biases,
norms' statistics, inside squeeze-and-excitation); recalibration and evaluation.
"""

from collections.abc import Iterator
from typing import NamedTuple

from space.architecture import Architecture
from space.count import layer_macs, output_size, parameters
from space.file_format import layer_weights, weights
from space.layers import Block, Layer, walk
from trainers.recipe import Recipe

FLOAT_BYTES = {"fp32": 4, "bf16": 2}
PARAMETER_BYTES = 4  # parameters, their gradients, states and averages stay in float32
PLACE_BYTES = 8  # of what PyTorch's maxpool remembers
CAST_BYTES = 12  # a weight and a step: to bf16 and back


class Work(NamedTuple):
    """What one layer asks of the device in one training step."""

    name: str
    op: str
    forward: int  # FLOPs
    backward: int  # FLOPs
    unfused: int  # bytes
    fused: int  # bytes

    @property
    def flops(self) -> int:
        return self.forward + self.backward


class _Place(NamedTuple):
    """A layer and where it stands."""

    layer: Layer
    size: int  # pixels of its input
    of_image: bool  # its input is the network's


class _Passes(NamedTuple):
    """Elements that are read and written in a step; bytes of what has a size of its own."""

    unfused: int
    fused: int
    places: int = 0


def step_work(
    architecture: Architecture, size: int, batch: int, precision: str, recipe: Recipe
) -> list[Work]:
    """Layer by layer in forward order, the optimiser last."""
    work: list[Work] = []
    for number, block in enumerate(walk(architecture)):
        places = list(_places(block, size, number == 0))
        tail = len(places) - len(block.tail)
        work += [_layer_work(place, batch, FLOAT_BYTES[precision]) for place in places[:tail]]
        body_size = size
        for layer in block.body:
            body_size = output_size(layer, body_size)
        if block.shortcut is not None:
            sizes = (size, body_size)
            work.append(_addition(block, sizes, number == 0, batch, FLOAT_BYTES[precision]))
        work += [_layer_work(place, batch, FLOAT_BYTES[precision]) for place in places[tail:]]
        size = output_size(places[-1].layer, places[-1].size) if block.tail else body_size
    return [*work, _optimiser(architecture, precision, recipe)]


def _places(block: Block, size: int, first: bool) -> Iterator[_Place]:
    """Body, shortcut and tail; a body and its shortcut begin from the same map."""
    body_size = size
    for number, layer in enumerate(block.body):
        yield _Place(layer, body_size, first and number == 0)
        body_size = output_size(layer, body_size)
    for number, layer in enumerate(block.shortcut or ()):
        yield _Place(layer, size, first and number == 0)
        size = output_size(layer, size)
    for layer in block.tail:
        yield _Place(layer, body_size, False)
        body_size = output_size(layer, body_size)


def _layer_work(place: _Place, batch: int, float_bytes: int) -> Work:
    layer, of_image = place.layer, place.of_image
    after = output_size(layer, place.size)
    x = batch * layer.inputs * place.size**2
    y = batch * layer.outputs * after**2
    w = sum(weight.elements for weight in layer_weights(layer))
    passes = _passes(layer, x, y, w, of_image)
    once = 2 * batch * layer_macs(layer, after)  # of all applications of its block
    return Work(
        layer.name,
        layer.op,
        forward=once,
        backward=once if of_image else 2 * once,
        unfused=layer.times * (passes.unfused * float_bytes + passes.places * PLACE_BYTES),
        fused=layer.times * passes.fused * float_bytes,
    )


def _passes(layer: Layer, x: int, y: int, w: int, of_image: bool) -> _Passes:
    """The table above, line by line."""
    match layer.op:
        case "conv" | "linear":
            act, norm = bool(layer.activation), layer.norm
            backward_input = 0 if of_image else y + w + x
            own_passes = 8 * y * norm + 5 * y * act
            kept = y if norm or act else 0
            return _Passes(
                unfused=(x + w + y) + (x + y + w) + backward_input + own_passes,
                fused=(x + w + y) + (y + kept + x + w) + (0 if of_image else w + x),
            )
        case "cheap" | "split":
            joined = 2 * y + (3 if layer.op == "cheap" else 2) * x
            inner = layer._replace(op="conv")
            share = (x, x) if layer.op == "cheap" else (3 * x // 4, 3 * y // 4)
            unfused = _passes(inner, *share, w, of_image).unfused + joined
            return _Passes(unfused, (x + w + y) + (2 * y + x + w) + (w + x))
        case "gate":
            return _Passes((2 * y + 3 * y) + (5 * y + 3 * y + 2 * x), (x + y) + (y + 2 * x))
        case "se":
            return _Passes((x + x + y) + (x + y + x) + x + 3 * x + 3 * w, x + (x + y) + 3 * w)
        case "activation":
            return _Passes(2 * y + 3 * y, 0)
        case "shuffle":
            return _Passes(2 * (x + y), 0)
        case "maxpool":
            return _Passes(2 * (x + y), (x + y) + (y + 2 * x), places=2 * y)
        case "avgpool":
            return _Passes(2 * (x + y), (x + y) + (y + 2 * x))
    raise AssertionError(f"no rule for {layer.op}")


def _addition(
    block: Block, sizes: tuple[int, int], of_image: bool, batch: int, float_bytes: int
) -> Work:
    before, after = sizes
    x = 0 if of_image else batch * block.body[0].inputs * before**2
    y = batch * block.body[-1].outputs * after**2
    unfused = 3 * y + 3 * x
    fused = 3 * y + (3 if block.shortcut else 2) * y + x
    return Work(f"{block.name}.add", "add", 0, 0, unfused * float_bytes, fused * float_bytes)


def _optimiser(architecture: Architecture, precision: str, recipe: Recipe) -> Work:
    states = int(recipe.momentum > 0) if recipe.optimizer == "sgd" else 2
    count = parameters(architecture)
    step, average = 3 + 2 * states, bool(recipe.ema)
    cast = sum(weight.elements for weight in weights(architecture)) * CAST_BYTES
    cast = cast if precision == "bf16" else 0
    unfused = count * PARAMETER_BYTES * (step + 3 * average) + cast
    fused = count * PARAMETER_BYTES * (step + 2 * average) + cast
    return Work("optimiser", recipe.optimizer, 0, 0, unfused, fused)
