//! The program's own BPF helpers, as the build generates them from
//! `src/bpf/internal/`: the skeleton of each, and its object. The object is for
//! helpers that work on the map of another program: libbpf gives a map that
//! reuses a descriptor the name of the other, and then a skeleton does not find it.

use std::io::Read;
use std::sync::LazyLock;

use flate2::read::ZlibDecoder;

include!(concat!(env!("OUT_DIR"), "/internal.rs"));

/// A file that the build has packed.
pub(crate) fn unpack(packed: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = ZlibDecoder::new(packed).read_to_end(&mut bytes);
    debug_assert!(read.is_ok(), "the build packed it");
    bytes
}
