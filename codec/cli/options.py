"""Options of the commands: one dataclass each, whose docstrings are its --help (no torch)."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveInt
from pydantic.dataclasses import dataclass
from tyro.conf import Positional, arg

from codec.cli.program_options import ProgramOptions
from codec.cli.values import parse_bitrate, parse_device, parse_time
from codec.config import FILE_BEAM, STRICT


def _shown(metavar: str, *aliases: str) -> Any:
    """How --help shows a value whose default its own text explains."""
    return arg(metavar=metavar, aliases=aliases, help_behavior_hint="")


Inputs = Positional[Annotated[tuple[str, ...], _shown("INPUT...")]]
Output = Annotated[str | None, _shown("OUT", "-o")]
Name = Annotated[str | None, _shown("NAME|DIR")]
Levels = Annotated[int | None, _shown("N")]
Device = Annotated[str, BeforeValidator(parse_device), _shown("auto|cpu|cuda|cuda:N|mps")]
Mode = Literal["float32", "bf16_decoder", "bf16", "onnx"]
PeerName = Literal["encodec", "mimi", "dac", "snac", "none"]
CodeFormat = Literal["codec", "npy", "npz", "jsonl", "parquet", "wds"]
Seconds = Annotated[float, Field(ge=0.1)]
Bitrate = Annotated[float, BeforeValidator(parse_bitrate)]
Time = Annotated[float, BeforeValidator(parse_time)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainOptions(ProgramOptions):
    """Options of codec-train that are not values of the recipe."""

    recipe: Positional[Annotated[str, _shown("RECIPE")]]
    """Name of a shipped recipe, or a .toml file."""
    out: Annotated[Path | None, _shown("DIR")] = None
    """Run directory; runs/<name of the recipe> if not given."""
    resume: bool = False
    """Continue the run in the run directory, with the recipe stored there; start it if there is none yet."""
    init_from: Name = None
    """Start from the weights of a model of the same architecture; it may have fewer levels."""
    device: Device = "auto"
    """auto is cuda where there is one, else cpu."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ModelOptions(ProgramOptions):
    """What encoding, decoding and evaluation share."""

    model: Name = None
    """Which model: a shipped one, a run directory of codec-train, a checkpoint, a folder with model.safetensors,
    owner/name[@revision] of the Hugging Face hub, or transformers:DIR with a codec of transformers."""
    device: Device = "auto"
    """auto is cuda where there is one, else cpu."""
    mode: Annotated[Mode, _shown("float32|bf16_decoder|bf16|onnx")] = "float32"
    """How to run it. bf16 is fast where the processor has bfloat16, bf16_decoder leaves the codes as they are; onnx is
    ONNX Runtime."""
    overwrite: bool = False
    """Replace files that are there already."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EncodeOptions(ModelOptions):
    """Encode audio files to codes: talk.wav -> talk.codec.

    .codec files are cut to their first N levels or to a part, or joined; no model runs:
      codec-encode talk.codec --num-quantizers 3                -> talk.3.codec
      codec-encode talk.codec --start 1:30 --duration 20        -> talk.cut.codec
      codec-encode one.codec two.codec --join -o both.codec

    A corpus becomes shards, here or on Ray; --resume goes on after an interruption. Its recordings are named by their
    path within it. Those that can't be read are listed in OUT/bad.jsonl (exit code 1).
      codec-encode CORPUS -o OUT --engine ray
      codec-encode CORPUS --verify OUT
    """

    inputs: Inputs
    """Audio files, or folders of them, whose tree is kept; - is standard input. Of a corpus also manifests (.tsv),
    WebDataset archives (.tar), Parquet with audio, and URLs such as s3://bucket/folder."""
    output: Output = None
    """A folder (one that exists, ends with /, or serves several inputs), or a file. Beside the input if not given.
    - is standard output."""
    skip_existing: bool = False
    """Leave files alone whose result is there, complete, of this model and of as many levels."""
    num_quantizers: Levels = None
    """Use the first N levels; all if not given."""
    bitrate: Annotated[Bitrate | None, _shown("B")] = None
    """The most levels with which files take at most B bit/s per channel on the average: 6000 or 6k."""
    start: Annotated[Time, _shown("TIME")] = 0.0
    """Cut .codec files: begin here. Seconds, 12.5, or 1:30 or 1:02:03.5."""
    duration: Annotated[Time | None, _shown("TIME")] = None
    """Cut .codec files to this length; to their end if not given."""
    join: bool = False
    """Join .codec files in the order given."""
    format: Annotated[CodeFormat | None, _shown("codec|npy|npz|jsonl|parquet|wds")] = None
    """codec if nothing says otherwise. npy is plain codes [C, K, F]; npz and jsonl also hold rate and length. parquet,
    the default for a corpus, and wds (WebDataset tar) are shards of many recordings."""
    beam: Annotated[int, arg(metavar="N")] = FILE_BEAM
    """Paths that the search for codes keeps: N paths take N times as long, and the audio is closer. 1: the nearest
    codeword of each level."""
    batch_seconds: Annotated[float, Field(ge=0), arg(metavar="S")] = 60.0
    """Encode files of similar length together, up to S seconds of audio at a time; a longer one goes alone, by blocks.
    0: one file at a time."""
    engine: Annotated[Literal["local", "ray"] | None, _shown("local|ray")] = None
    """Encode a corpus: in this process, or on Ray."""
    address: Annotated[str | None, _shown("HOST:PORT")] = None
    """Ray cluster to use, auto for the one that this machine belongs to. If not given, Ray is started here."""
    workers: Annotated[PositiveInt | None, _shown("N")] = None
    """Processes on Ray; if not given, one for each GPU, or for each processor where there is none."""
    shard_hours: Annotated[float, Field(gt=0), arg(metavar="H")] = 10.0
    """Audio of a shard. One is written every five minutes at the latest."""
    resume: bool = False
    """Go on with the corpus run in OUT; start it if there is none yet."""
    verify: Annotated[Path | None, _shown("OUT")] = None
    """Read all that a corpus run has written, check it, and compare a sample with fresh codes of the corpus."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DecodeOptions(ModelOptions):
    """Decode codes to audio of the original rate, channels and length: talk.codec -> talk.decoded.wav."""

    inputs: Inputs
    """.codec, .npy, .npz or .jsonl files, or folders of them, whose tree is kept; - is standard input. Or shards of a
    corpus (.parquet, .tar), or a folder of them: they become a tree of files in OUT."""
    output: Output = None
    """A folder (one that exists, ends with /, or serves several inputs), or a file. Beside the input if not given.
    - is standard output."""
    skip_existing: bool = False
    """Leave files alone whose result is there and has their rate, channels and length."""
    num_quantizers: Levels = None
    """Use the first N levels of what is there."""
    start: Annotated[Time, _shown("TIME")] = 0.0
    """Decode a part that begins here: seconds, 12.5, or 1:30 or 1:02:03.5. It is exactly this part of the whole. Of a
    .codec file only the chunks that it needs are read."""
    duration: Annotated[Time | None, _shown("TIME")] = None
    """Length of the part; to the end if not given."""
    salvage: bool = False
    """Decode a damaged .codec file as far as possible; what is lost becomes silence and is named (exit code 1)."""
    path: Annotated[tuple[str, ...], _shown("NAME...")] = ()
    """Of shards, decode only the recordings with these names."""
    format: Annotated[Literal["wav", "flac", "ogg", "opus", "mp3"] | None, _shown("wav|flac|ogg|opus|mp3")] = None
    """wav if neither this nor the name of the output says otherwise."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EvalOptions(ModelOptions):
    """Judge a model on files, beside other codecs: figures by bitrate with confidence intervals, by band, by level.

    Every file is encoded to memory and decoded, and the result is compared with the original. For example:
      codec-eval clips/ --bitrates 1500 3000 6000 --jobs 0
      codec-eval MANIFEST.tsv --kinds speech --codecs opus@6k,9k,12k codec2 --gains 0 -20 -40 --report report/
      codec-eval --listening anna.json ben.json
    """

    inputs: Positional[Annotated[tuple[Path, ...], _shown("INPUT...")]] = ()
    """Audio files, folders of them, or manifests (.tsv with a column `path`)."""
    output: Annotated[Path | None, _shown("FILE", "-o")] = None
    """Write all results to FILE.json, or the rows of every file to FILE.jsonl or FILE.csv."""
    plot: Annotated[Path | None, _shown("PNG")] = None
    """Draw rate-distortion curves into this file."""
    published: Annotated[Path | None, _shown("TSV")] = None
    """Draw also figures that were measured elsewhere: a table with the columns codec, bitrate (bit/s), and metrics."""
    report: Annotated[Path | None, _shown("DIR")] = None
    """Make a page there to look at and listen to, with a listening test: open DIR/index.html."""
    report_clips: Annotated[PositiveInt, arg(metavar="N")] = 20
    """Files whose audio is in the page, spread evenly over all."""
    resume: bool = False
    """Go on with the evaluation that --report DIR holds."""
    bitrates: Annotated[tuple[Bitrate, ...], _shown("B...")] = ()
    """bit/s per channel, 1500 or 1.5k: the most levels that do not exceed each. If not given: all, 1/2, 1/4."""
    codecs: Annotated[tuple[str, ...], _shown("CODEC...")] = ()
    """Judge these beside the model, NAME[:PATH][@BITRATE,...]:
    opus vorbis mp3 opusenc codec2 lyra:DIR transformers:DIR parametric:FILE=DATA model:DIR. docs/evaluation.md tells
    what each is."""
    versus: Annotated[str | None, _shown("CODEC")] = None
    """Give bits saved at equal quality (BD-rate) relative to this codec; the first of --codecs if not given."""
    metrics: Annotated[tuple[str, ...], _shown("NAME...")] = ()
    """mel stft lsd si_sdr snr loudness stoi estoi pesq_wb pesq_nb f0 f0_gross voicing dnsmos speaker phonemes; all that
    are installed if not given."""
    gains: Annotated[tuple[float, ...], arg(metavar="DB...")] = (0.0,)
    """Code and judge each clip at these gains (dB), each against the clip at that gain: 0 -20 -40."""
    conditions: Annotated[tuple[str, ...], _shown("NAME...")] = ()
    """Judge also with a DC offset, dc or dc=0.05, and with white noise at 20 dB, noise or noise=20."""
    listening: Annotated[tuple[Path, ...], _shown("JSON...")] = ()
    """Summarise the answers of a listening test instead; nothing else is done."""
    beam: Annotated[int, arg(metavar="N")] = FILE_BEAM
    """Paths that the search for codes keeps, as for codec-encode."""
    jobs: Annotated[int, arg(metavar="N")] = 1
    """Processes that share the files, with one thread each; 0: one a processor."""
    split: Annotated[str, arg(metavar="NAME")] = "valid"
    """Rows of a manifest to use."""
    kinds: Annotated[tuple[str, ...], _shown("KIND...")] = ()
    """Keep only rows of these kinds."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CompareOptions(ProgramOptions):
    """Put runs of Gaussian recipes beside each other, Shannon's bound, scikit-learn's k-means and Lloyd-Max."""

    inputs: Positional[Annotated[tuple[Path, ...], _shown("RUN...")]]
    """Run directories of codec-train that hold a results.json."""
    output: Annotated[Path | None, _shown("PNG", "-o")] = None
    """Draw the figure into this file."""
    overwrite: bool = False
    """Replace a file that is there already."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class InspectOptions(ProgramOptions):
    """Show what is in a .codec file, what a model is, and how it uses its codebooks on audio.

    A file: header, model, chunks and their checksums, bytes, bitrate, use of the codes by level. Of a damaged one it
    says what is intact and what is lost (exit code 1). A model: parts, receptive field, latency, operations, bitrates.
      codec-inspect talk.codec
      codec-inspect codes/ --json
      codec-inspect speech_16khz
      codec-inspect runs/speech_16khz --audio DATA/MANIFEST.tsv --split valid --kinds speech -o pictures
    """

    inputs: Positional[Annotated[tuple[Path, ...], _shown("FILE|MODEL...")]]
    """.codec files, folders of them, or models: a shipped one, a run directory, a checkpoint, a model folder."""
    model: Name = None
    """The model that made the files; if not given, one that ships. Only entropy-coded files need it."""
    audio: Annotated[tuple[Path, ...], _shown("AUDIO...")] = ()
    """How the model uses its codebooks on audio files, folders of them, or manifests (.tsv with a column `path`)."""
    output: Annotated[Path | None, _shown("DIR", "-o")] = None
    """Draw the codebooks into this folder: their principal plane, coloured by use, over what each level saw."""
    split: Annotated[str, arg(metavar="NAME")] = "valid"
    """Rows of a manifest to use."""
    kinds: Annotated[tuple[str, ...], _shown("KIND...")] = ()
    """Keep only rows of these kinds."""
    overwrite: bool = False
    """Replace pictures that are there already."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BenchOptions(ProgramOptions):
    """Measure how fast a model is on this processor, beside other codecs and beside the machine's own peak.

    Whole signals part by part and in every fast mode, a live stream block by block, peak memory against length, FLOP,
    other codecs that are installed (random weights, nothing is downloaded), and the residual quantizer beside
    vector-quantize-pytorch. What is compared runs in the same rounds, so that a busy machine slows both. Five minutes:
      codec-bench --quick
      codec-bench runs/speech_16khz -o bench.json --plot bench.png
      codec-bench --recipe quickstart --modes float32 onnx --peers encodec mimi --threads 1
    """

    model: Positional[Annotated[str | None, _shown("MODEL")]] = None
    """A run directory of codec-train, a checkpoint, a model folder or a shipped model. If not given: a recipe."""
    recipe: Annotated[str | None, _shown("NAME|FILE")] = None
    """Take the architecture of a recipe, with random weights; speech_16khz if neither is given."""
    output: Annotated[Path | None, _shown("JSON", "-o")] = None
    """Write all numbers, the machine and versions to this file."""
    plot: Annotated[Path | None, _shown("PNG")] = None
    """Draw the figure into this file."""
    modes: Annotated[tuple[Mode, ...], _shown("MODE...")] = ()
    """float32 bf16_decoder bf16 onnx. If not given: all, but bf16 only where the processor has it."""
    peers: Annotated[tuple[PeerName, ...], _shown("PEER...")] = ()
    """encodec mimi dac snac, or none; all that are installed if not given."""
    threads: Annotated[tuple[str, ...], Field(min_length=1), arg(metavar="N|all...")] = ("1", "all")
    """Numbers of threads, each measured by itself."""
    seconds: Annotated[Seconds, arg(metavar="S")] = 10.0
    """Audio of a run on whole signals."""
    block_ms: Annotated[float, Field(ge=1), arg(metavar="MS")] = 20.0
    """Audio of a block of the live stream."""
    rounds: Annotated[PositiveInt, arg(metavar="N")] = 7
    """Measured rounds. Slow peers get fewer."""
    file_seconds: Annotated[tuple[Seconds, ...], Field(min_length=1), arg(metavar="S...")] = (10.0, 60.0, 600.0)
    """Lengths of the files whose memory is measured; add 3600 for an hour."""
    quick: bool = False
    """Half a minute: little audio, few rounds, one thread, one mode, where not given otherwise. Not for quoting."""
    overwrite: bool = False
    """Replace files that are there already."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ExportOptions(ProgramOptions):
    """Write a model as ONNX files that run without PyTorch, with a program in NumPy that shows how; or a web page.

    The graphs are run in ONNX Runtime and compared with PyTorch before anything is written. Needs the extra `export`.
      codec-export -o onnx/
      codec-export --web page/
    """

    model: Positional[Name] = None
    """Which model: a shipped one, a run directory of codec-train, a checkpoint, or a folder with model.safetensors."""
    output: Annotated[Path | None, _shown("DIR", "-o")] = None
    """Folder for encoder.onnx, decoder.onnx, codec.json and example.py."""
    web: Annotated[Path | None, _shown("DIR")] = None
    """Folder for a page that encodes and decodes in the browser: open DIR/index.html, no server is needed."""
    onnxruntime_web: Annotated[str | None, _shown("DIR|URL")] = None
    """For --web: folder of the npm package onnxruntime-web, or URL of its .wasm file. If not given, node_modules is
    searched."""
    beam: Annotated[int, arg(metavar="N")] = 1
    """Paths that the search in encoder.onnx keeps, as for codec-encode; one is best for live use."""
    overwrite: bool = False
    """Replace an export that is there already."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ReleaseOptions(ProgramOptions):
    """Make what ships of a trained model: float16 weights, tables for entropy coding, fingerprint and card.

    Tables are learned on the train split of the recipe's data; --data.root and the like say where it is now.
      codec-release runs/speech_16khz -o codec/weights/speech_16khz --about sources.md --figures results.json
      codec-release codec/weights/speech_16khz --push owner/speech_16khz
    """

    model: Positional[Annotated[str, _shown("RUN|DIR")]]
    """A run directory of codec-train, a checkpoint, or a folder with model.safetensors; without -o, a release."""
    output: Annotated[Path | None, _shown("DIR", "-o")] = None
    """New folder; its name is the model's. A released model is never replaced."""
    push: Annotated[str | None, _shown("OWNER/NAME[@BRANCH]")] = None
    """Push the release, the new one or an older one, to the Hugging Face hub (extra `hub`)."""
    private: bool = False
    """Create the repository so that only its owner can read it."""
    message: Annotated[str | None, _shown("TEXT")] = None
    """Of the commit on the hub; if not given, the model's identity."""
    recipe: Annotated[str | None, _shown("NAME|FILE")] = None
    """What the model was trained by; if not given, the recipe of its run."""
    about: Annotated[Path | None, _shown("FILE")] = None
    """Data sources and licences, for the card; if not given, the comment at the head of the recipe."""
    figures: Annotated[Path | None, _shown("JSON")] = None
    """What codec-eval -o wrote about the model, for the card."""
    device: Device = "auto"
    """Where the data is encoded; auto is cuda where there is one, else cpu."""
