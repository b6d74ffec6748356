"""The `.codec` file format: codes [C, K, F] <-> bytes.

Version 1. All numbers are little endian; nothing in a file is executed or unpickled.

    header   78 bytes  magic "CODC", version u8, payload kind u8, model identity (32 bytes),
                       model sample rate u32, sample rate u32, channels u16, quantizers u16,
                       codebook size u32, hop u32, delay u32, frames a chunk u32,
                       samples u64 (0: never closed), CRC-32 of all this
    chunk    12 + n    sync C0 DE, number u24, payload length n u24, CRC-32 of (number, length, payload),
                       payload
    index    12 + 4 m  "INDX", number of chunks m u32, size of each chunk u32, CRC-32 of number and sizes
    trailer  16        offset of the index u64, CRC-32 of that, "CEND"

A payload of kind 0 holds every code in ceil(log2 N) bits, most significant bit first. The codes are ordered by frame,
then by channel, then by quantizer. Zeros fill the last byte.

A payload of kind 1 holds the same codes, entropy-coded to one big-endian integer by `codec.bitstream.rans` with tables
that are part of the model. Zeros in front fill it up to one bit a code. If it would not be shorter than the payload of
kind 0, it is that payload: a reader knows by the length.

Each chunk is coded independently. All but the last have as many frames as the header says. A reader does not need index
and trailer. After damage it continues at the next sync whose chunk passes its checksum.
"""

from codec.bitstream.chunks import BitstreamWriter
from codec.bitstream.container import Bitstream
from codec.bitstream.header import ENTROPY_CODED, PACKED, Header, describe_lost
from codec.bitstream.plain import SUFFIXES, count_recordings, read_codes, read_recordings, write_codes
from codec.bitstream.rans import EntropyCoder
from codec.bitstream.reader import BitstreamReader, read_complete_header

__all__ = [
    "ENTROPY_CODED",
    "PACKED",
    "SUFFIXES",
    "Bitstream",
    "BitstreamReader",
    "BitstreamWriter",
    "EntropyCoder",
    "Header",
    "count_recordings",
    "describe_lost",
    "read_codes",
    "read_complete_header",
    "read_recordings",
    "write_codes",
]
