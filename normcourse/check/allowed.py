"""What exists in the second world (`world`): built-in names, modules, and attributes of what a value can be."""

import builtins
import copy
import math
import statistics
from collections import Counter, deque, namedtuple
from contextlib import nullcontext
from fractions import Fraction
from functools import partial
from types import GeneratorType

import numpy
import torch

from . import kinds

MAGIC = """init call len getitem setitem iter next repr str contains bool lt le eq ne gt ge add sub mul truediv neg pow
matmul mod floordiv abs or ror and rand xor radd rsub rmul rtruediv rpow rmatmul iadd isub imul itruediv enter exit"""
MAGIC = {f"__{name}__" for name in MAGIC.split()}
NAMES = """abs all any bool callable dict divmod enumerate filter float frozenset int isinstance iter len list map
max min next object ord chr pow property range repr reversed round set slice sorted staticmethod classmethod str sum
super tuple zip format bin hex oct issubclass ArithmeticError AssertionError AttributeError Exception
IndexError KeyError NameError NotImplementedError OverflowError RuntimeError StopIteration TypeError
ValueError ZeroDivisionError ImportError ModuleNotFoundError LookupError FloatingPointError RecursionError Warning
UserWarning RuntimeWarning DeprecationWarning FutureWarning NotImplemented"""
BUILTINS = {name: getattr(builtins, name) for name in NAMES.split()}
ERRORS = {kind for kind in BUILTINS.values() if isinstance(kind, type) and issubclass(kind, Exception)}
BUILTINS |= {"print": lambda *arguments, **options: None, "display": lambda *arguments, **options: None}
# The last one is for C, which looks for it here; a text cannot name it, and its imports are rewritten.
BUILTINS |= {name: getattr(builtins, name) for name in ("__build_class__", "__import__")}

# Functions of torch that are methods of tensors, too, and compute nothing but their results.
BOTH = """abs absolute acos acosh add addcdiv addcmul addmm addmv addr all allclose amax amin aminmax any arccos
argmax argmin argsort asin asinh atan atan2 atanh baddbmm bincount bitwise_and bitwise_not bitwise_or
bmm broadcast_to cdist ceil chunk clamp clamp_max clamp_min clip clone concat copysign corrcoef cos cosh
count_nonzero cov cross cummax cummin cumprod cumsum deg2rad det detach diag diag_embed diagonal diff
digamma dist div divide dot dsplit eq equal erf erfc erfinv exp exp2 expm1 fix flatten flip float_power
floor floor_divide fmax fmin fmod frac frexp gather ge greater greater_equal gt heaviside histc hsplit
hypot index_add index_copy index_fill index_select inner inverse isclose isfinite isinf isnan isneginf
isposinf isreal kron kthvalue ldexp le lerp less less_equal lgamma log log10 log1p log2 log_softmax
logaddexp logaddexp2 logcumsumexp logdet logical_and logical_not logical_or logical_xor logit logsumexp
lt masked_fill masked_scatter masked_select matmul matrix_exp matrix_power max maximum mean median min
minimum mm mode moveaxis movedim msort mul multiply mv mvlgamma nan_to_num nanmean nanmedian nanquantile
nansum narrow ne neg negative nextafter nonzero norm not_equal numel outer permute pinverse polygamma
positive pow prod quantile rad2deg ravel reciprocal relu remainder renorm repeat_interleave reshape roll
rot90 round rsqrt scatter scatter_add select sgn sigmoid sign signbit sin sinc sinh slogdet softmax sort
split sqrt square squeeze std std_mean sub subtract sum svd swapaxes swapdims t take take_along_dim tan
tanh tensor_split tile topk trace transpose tril triu true_divide trunc unbind unflatten unique
unique_consecutive unsqueeze var var_mean vdot vsplit where xlogy layer_norm group_norm batch_norm
instance_norm rms_norm native_layer_norm"""
DTYPES = "bfloat16 bool double float float16 float32 float64 half int int16 int32 int64 int8 long short uint8"
TORCH = f"""{BOTH} {DTYPES} arange as_tensor asarray atleast_1d atleast_2d atleast_3d autocast block_diag
broadcast_shapes broadcast_tensors cartesian_prod cat chain_matmul column_stack combinations concatenate
cosine_similarity dstack einsum empty empty_like enable_grad eye finfo from_numpy full full_like hstack iinfo inf
get_default_dtype is_floating_point is_grad_enabled is_tensor isin linspace logspace meshgrid nan no_grad
inference_mode normal ones ones_like pi rand rand_like randint randn randn_like randperm manual_seed promote_types
result_type set_grad_enabled
stack tensor tensordot tril_indices triu_indices trapezoid trapz vander vmap vstack zeros zeros_like Tensor Size
FloatTensor DoubleTensor LongTensor Generator device dtype is_complex newaxis scalar_tensor"""
FUNCTIONAL = """binary_cross_entropy celu cosine_similarity cross_entropy dropout elu embedding gelu glu hardtanh
huber_loss interpolate kl_div l1_loss layer_norm leaky_relu linear log_softmax logsigmoid mse_loss
nll_loss normalize one_hot pad pairwise_distance relu relu6 rms_norm scaled_dot_product_attention selu
sigmoid silu smooth_l1_loss softmax softmin softplus softsign tanh tanhshrink unfold batch_norm
group_norm instance_norm avg_pool1d adaptive_avg_pool1d threshold bilinear conv1d"""
NN = """Module Parameter ModuleList ModuleDict ParameterList Sequential Linear Identity LayerNorm RMSNorm
GroupNorm BatchNorm1d CosineSimilarity Tanh ReLU GELU SiLU Sigmoid Softmax Dropout MSELoss CrossEntropyLoss"""
LINALG = """cholesky cond cross det diagonal eig eigh eigvals eigvalsh inv lstsq matmul matrix_exp matrix_norm
matrix_power matrix_rank multi_dot norm pinv qr slogdet solve svd svdvals vecdot vector_norm"""
MATH = " ".join(name for name in vars(math) if not name.startswith("_"))
NUMPY = """abs absolute add all allclose amax amin any append arange arccos arcsin arctan argmax argmin argsort
array array_equal asarray ascontiguousarray atleast_1d atleast_2d average bool_ broadcast_to cbrt ceil
clip column_stack concatenate copysign cos cosh cumprod cumsum diag diagonal diff divide dot e einsum
empty empty_like equal errstate exp exp2 expand_dims expm1 eye fabs flatnonzero flip float16 float32
float64 float_power floor full full_like heaviside hstack hypot identity inf inner int32 int64 isclose
isfinite isinf isnan kron linspace log log10 log1p log2 logaddexp logspace matmul max maximum mean
median min minimum mod moveaxis multiply nan nan_to_num nanmean nansum ndarray negative newaxis nonzero
ones ones_like outer pi polyfit polyval power prod ptp ravel reciprocal repeat reshape roll round sign
sin sinh sort sqrt square squeeze stack std subtract sum swapaxes tan tanh tensordot tile trace
transpose trapezoid tril triu unique var vstack where zeros zeros_like count_nonzero fromiter interp ndindex int_
percentile quantile vdot argwhere array_split split issubdtype floating integer isscalar finfo iinfo searchsorted take
vectorize apply_along_axis"""
SPREADS = "pstdev pvariance stdev variance"
SPACES = {
    "torch": TORCH,
    "torch.nn": NN,
    "torch.nn.functional": FUNCTIONAL,
    "torch.nn.parameter": "Parameter",
    "torch.linalg": LINALG,
    "torch.special": "digamma entr erf erfc erfcx erfinv exp2 expit expm1 gammaln log1p log_ndtr log_softmax logit "
    "logsumexp ndtr ndtri sinc softmax xlogy xlog1py",
    "torch.autograd": "grad",
    "torch.autograd.functional": "jacobian jvp vjp",
    "torch.func": "grad grad_and_value jacfwd jacrev jvp vjp vmap",
    "torch.optim": "SGD Adam AdamW",
    "torch.cuda": "is_available device_count",
    "torch.distributions": "Normal Binomial",
    "numpy.polynomial": "hermite hermite_e legendre",
    "numpy.polynomial.hermite": "hermgauss",
    "numpy.polynomial.hermite_e": "hermegauss",
    "numpy.polynomial.legendre": "leggauss",
    "numpy.random": "",
    "random": "",
    "numbers": "Complex Integral Number Rational Real",
    "gc": "",
    "pprint": "",
    "torch.random": "manual_seed",
    "torch.backends": "",
    "torch.backends.mps": "",
    "statistics": f"fmean linear_regression mean median {SPREADS} NormalDist",
    "torch.jit": "",
    "types": "",
    "enum": "",
    "dataclasses": "",
    "collections.abc": "",
    "math": MATH,
    "itertools": "accumulate chain combinations compress count cycle dropwhile filterfalse groupby islice pairwise "
    "permutations product repeat starmap takewhile tee zip_longest",
    "functools": "cache lru_cache partial reduce",
    "collections": "defaultdict deque namedtuple Counter OrderedDict",
    "contextlib": "contextmanager nullcontext suppress",
    "copy": "copy deepcopy",
    "fractions": "Fraction",
    "torch.nn.init": "constant_ normal_ ones_ uniform_ zeros_",
    "tqdm": "",
    "tqdm.auto": "",
    "tqdm.notebook": "",
    "time": "",
    "warnings": "",
    "abc": "",
    "sys": "float_info maxsize version_info",
    "torch.testing": "",
    "torch.amp": "autocast",
    "logging": "DEBUG INFO WARNING ERROR CRITICAL",
    "typing": "",
    "operator": "abs add and_ contains eq floordiv ge getitem gt iadd imul isub itemgetter itruediv le lt matmul "
    "mod mul ne neg not_ or_ pow sub truediv xor",
    "numpy": NUMPY,
    "numpy.linalg": "cond det eig eigh eigvals eigvalsh inv lstsq matrix_power matrix_rank multi_dot norm pinv qr "
    "slogdet solve svd",
}
STAND_INS = dict.fromkeys(
    ("torch.compile", "torch.jit.script"), lambda function=None, **options: function or (lambda function: function)
)
STAND_INS |= dict.fromkeys(  # progress bars and clocks do nothing
    ("tqdm.tqdm", "tqdm.auto.tqdm", "tqdm.notebook.tqdm"), lambda steps=(), *arguments, **options: steps
)
STAND_INS |= {"tqdm.trange": lambda count, *arguments, **options: range(count)}
STAND_INS |= dict.fromkeys(("time.time", "time.perf_counter", "time.process_time", "time.monotonic"), lambda: 0.0)
# The real one reads and writes attributes, `__globals__` too, by names that are given as text.
STAND_INS |= {"functools.wraps": lambda wrapped, *arguments, **options: lambda function: function}
# A memo tells where objects lie, and gives parts of the copy other names, such as those that NumPy asks for memory by.
STAND_INS |= {"copy.deepcopy": lambda value: copy.deepcopy(value)}
QUIET = """warnings.warn warnings.filterwarnings warnings.simplefilter torch.testing.assert_close time.sleep gc.collect
pprint.pprint sys.setrecursionlimit torch.set_printoptions torch.set_num_threads torch.autograd.set_detect_anomaly
torch.use_deterministic_algorithms torch.cuda.empty_cache torch.cuda.synchronize"""
STAND_INS |= dict.fromkeys(QUIET.split(), lambda *arguments, **options: None)
STAND_INS |= {"sys.stdout": None, "sys.stderr": None}  # `print` says nothing
STAND_INS |= {"abc.ABC": object, "abc.abstractmethod": lambda function: function}
STAND_INS |= {"torch.autograd.Function": kinds.Function, "types.SimpleNamespace": kinds.Namespace}
STAND_INS |= {f"enum.{kind.__name__}": kind for kind in (kinds.Enum, kinds.IntEnum, kinds.StrEnum, kinds.auto)}
STAND_INS |= {"torch.backends.mps.is_available": lambda: False}
REAL = int, float, bool, Fraction


def _of_numbers(name, *given):
    """A function of `statistics`. The real ones call `type(value)` on what objects of an answer's own say of
    themselves, and it would hold the kinds of everything: those of functions, and of arrays of any memory."""
    plainly = lambda value: value if type(value) in REAL else float(value)  # noqa: E731
    return getattr(statistics, name)(*(plainly(a) if type(a) in REAL else [plainly(b) for b in a] for a in given))


FUNCTIONS = f"fmean linear_regression mean median {SPREADS}".split()
STAND_INS |= {f"statistics.{name}": partial(_of_numbers, name) for name in FUNCTIONS}
# A name that was computed would stand in the words of `NotUnderstood`.
STAND_INS |= {
    "collections.namedtuple": lambda typename, *fields, **options: namedtuple("namedtuple", *fields, **options)
}
ITSELF = "enum.unique typing.final typing.no_type_check typing.overload typing.runtime_checkable"
STAND_INS |= dict.fromkeys(ITSELF.split(), lambda function: function)
STAND_INS |= {"functools.cached_property": property, "warnings.catch_warnings": lambda **options: nullcontext()}
SEEDS = "random.seed numpy.random.seed torch.cuda.manual_seed torch.cuda.manual_seed_all"
STAND_INS |= dict.fromkeys(SEEDS.split(), lambda seed=None: None)  # nothing here draws from them
STAND_INS |= {"triton.cdiv": lambda x, y: -(-x // y), "triton.next_power_of_2": lambda n: 1 << (n - 1).bit_length()}


class Silent:
    """A logger that says nothing."""

    def info(self, *arguments, **options):
        pass

    debug = warning = error = critical = exception = log = setLevel = basicConfig = isEnabledFor = info


class Hint:
    """What annotations are made of; they go."""

    def __getitem__(self, part):
        return self

    __call__ = __or__ = __ror__ = lambda self, *arguments, **options: self

    def __mro_entries__(self, bases):  # class Norm(Protocol)
        return ()


SILENT = "debug info warning error critical exception log"
STAND_INS |= {f"logging.{name}": getattr(Silent(), name) for name in f"{SILENT} basicConfig".split()}
STAND_INS |= {"logging.getLogger": lambda name=None: Silent(), "typing.cast": lambda kind, value: value}
HINTS = """Annotated Any Callable ClassVar Dict Final Generator Generic Iterable Iterator List Literal Mapping Optional
Protocol Sequence Set Tuple Type TypeAlias TypeVar Union"""
STAND_INS |= {f"{space}.{name}": Hint() for name in HINTS.split() for space in ("typing", "collections.abc")}
# What a task that is to be solved without one of the first is to be solved without, too.
NORMS = "batch_norm group_norm instance_norm layer_norm native_layer_norm renorm rms_norm"
NORMS = frozenset(
    f"{NORMS} BatchNorm1d CosineSimilarity cosine_similarity GroupNorm LayerNorm RMSNorm embedding".split()
)
RELATIVES = [
    ({"layer_norm", "rms_norm"}, NORMS),
    ({"std", "var"}, NORMS | {"corrcoef", "cov", *SPREADS.split()}),
    ({"grad"}, {"grad_and_value", "eig", "eigvals"}),  # they make complex numbers, and with them a derivative
]
SPACES = {path: frozenset(names.split()) for path, names in SPACES.items()}

# Where kernels compute (`launches`), the code around them allocates, looks at shapes, converts and launches.
NUMBERS = "float16 bfloat16 float32 float64 int1 int8 int16 int32 int64 uint8 uint16 uint32 uint64"
BESIDE_KERNELS = {
    "torch": f"""{DTYPES} empty empty_like zeros zeros_like clone Tensor Size device dtype finfo iinfo inf nan pi
no_grad enable_grad inference_mode set_grad_enabled is_grad_enabled is_tensor is_floating_point numel contiguous_format
preserve_format""",
    "torch.nn": "Module",
    "torch.cuda": "is_available device_count",
    "triton": "jit",
    "triton.language": f"{NUMBERS} constexpr",
}
BESIDE_KERNELS = {path: frozenset(names.split()) for path, names in BESIDE_KERNELS.items()}
PYTHON = "abc collections contextlib functools itertools logging math operator sys time tqdm typing warnings"
BESIDE_KERNELS |= {path: names for path, names in SPACES.items() if path.partition(".")[0] in PYTHON.split()}
SAME = {"normcourse.fused.interpreter.triton": "triton", "normcourse.fused.interpreter.tl": "triton.language"}
# In a kernel: functions of tl, attributes of tiles, and what is built in.
TL = f"""{NUMBERS} abs add advance arange argmax argmin associative_scan assume atomic_add atomic_and atomic_cas
atomic_max atomic_min atomic_or atomic_xchg atomic_xor broadcast broadcast_to cast cat cdiv ceil clamp constexpr cos
cumprod cumsum debug_barrier device_assert device_print div_rn dot erf exp exp2 expand_dims fdiv flip floor fma full
gather histogram interleave join load log log2 make_block_ptr max max_constancy max_contiguous maximum min minimum mul
multiple_of num_programs permute program_id ravel range reduce reduce_or reshape rsqrt sigmoid sin softmax sort split
sqrt sqrt_rn squeeze static_assert static_print static_range store sub sum swizzle2d topk trans umulhi unsqueeze view
where xor_sum zeros zeros_like"""
TL = frozenset(TL.split())
OF_TILES = """T abs argmax argmin broadcast_to cast cdiv ceil cos cumprod cumsum dtype element_ty erf exp exp2
expand_dims flip floor is_bf16 is_floating is_fp16 is_fp32 is_fp64 is_int is_ptr log log2 logical_and logical_or max min
numel permute primitive_bitwidth ravel reshape rsqrt scalar shape sigmoid sin softmax sort split sqrt sqrt_rn sum to
trans type value view"""
OF_TILES = frozenset(OF_TILES.split())
IN_KERNELS = {name: BUILTINS[name] for name in ("abs", "float", "int", "max", "min", "print", "range")}

INPLACE = """abs add addcdiv addcmul addmm clamp clamp_max clamp_min clip copy cumsum div divide erf exp expm1 fill
floor index_add index_copy index_fill lerp log log10 log1p log2 masked_fill mul multiply nan_to_num neg
pow reciprocal relu requires_grad round rsqrt scatter scatter_add sigmoid sign sqrt square squeeze sub
subtract tanh tril triu trunc unsqueeze zero"""
TENSOR = f"""{BOTH} {DTYPES} {" ".join(f"{name}_" for name in INPLACE.split())} T mT H device dtype shape ndim grad
requires_grad is_leaf itemsize nbytes backward contiguous cpu to type_as item tolist numpy size stride dim nelement
element_size type is_contiguous is_complex is_floating_point is_meta is_sparse mH adjoint
new_empty new_full new_ones new_tensor new_zeros expand
expand_as repeat view view_as reshape_as sum_to_size unfold ndimension get_device is_cuda retain_grad real data"""
ARRAY = """T all any argmax argmin argsort astype clip copy cumsum diagonal dot dtype fill flatten item itemsize
max mean min nbytes ndim nonzero prod ravel repeat reshape round shape size sort squeeze std sum
swapaxes tolist trace transpose var"""
MODULE = """parameters buffers children modules named_parameters named_children named_modules named_buffers state_dict
load_state_dict apply add_module register_module register_buffer register_parameter requires_grad_ train eval to cpu
float double half bfloat16 training zero_grad"""
LAYER = "weight bias eps normalized_shape elementwise_affine in_features out_features append extend keys values items"
ATTRIBUTES = {
    torch.Tensor: TENSOR,
    torch.Size: "numel count index",
    torch.dtype: "is_floating_point is_complex itemsize to_real",
    torch.finfo: "bits eps max min tiny smallest_normal resolution dtype",
    torch.iinfo: "bits max min",
    torch.device: "type index",
    torch.Generator: "manual_seed",
    torch.optim.Optimizer: "step zero_grad param_groups",
    torch.distributions.Distribution: "log_prob cdf mean variance",
    torch.nn.Module: f"{LAYER} {MODULE}",
    numpy.ndarray: ARRAY,
    numpy.generic: ARRAY,
    numpy.dtype: "kind itemsize name",
    numpy.finfo: "bits eps max min tiny",
    numpy.iinfo: "bits max min",
    list: "append extend insert pop remove reverse sort copy clear count index",
    tuple: "count index",
    deque: "append appendleft pop popleft extend extendleft clear copy count index remove reverse rotate maxlen",
    Counter: "most_common elements total",
    dict: "get items keys values pop setdefault update copy clear",
    set: "add discard remove union intersection difference symmetric_difference issubset issuperset isdisjoint update "
    "copy pop clear",
    frozenset: "union intersection difference symmetric_difference issubset issuperset isdisjoint",
    str: "startswith endswith split join strip lower upper replace partition rpartition isdigit "
    "isalpha islower isupper count find index title capitalize lstrip rstrip removeprefix removesuffix "
    "zfill ljust rjust center",
    Silent: f"{SILENT} setLevel isEnabledFor",
    Fraction: "numerator denominator limit_denominator",
    float: "is_integer real",
    int: "bit_length real",
    slice: "start stop step",
    GeneratorType: "send close",
    property: "setter",
    StopIteration: "value",
    statistics.NormalDist: "pdf cdf inv_cdf",
}
ATTRIBUTES = {kind: frozenset(names.split()) for kind, names in ATTRIBUTES.items()}
TENSOR_BESIDE_KERNELS = """T bfloat16 clone contiguous cpu data detach device dim double dtype element_size flatten
float get_device half is_contiguous is_cuda is_floating_point is_leaf is_meta itemsize mT nbytes ndim new_empty
new_zeros numel requires_grad requires_grad_ reshape shape size squeeze stride to type type_as unsqueeze view view_as"""
TENSOR_BESIDE_KERNELS = frozenset(TENSOR_BESIDE_KERNELS.split())
MODULE = frozenset(MODULE.split())
KINDS = {*ATTRIBUTES, *(getattr(torch.nn, name) for name in NN.split()), bool, range, type(None)}  # what `type` says
LAYERS = (torch.nn.Linear, torch.nn.LayerNorm, torch.nn.RMSNorm)  # whose parameters may be replaced
METHODS = f"{BOTH} {DTYPES} item tolist numpy size"  # also as torch.Tensor.mean
METHODS = {torch.Tensor: frozenset(METHODS.split()), dict: {"fromkeys"}}
