//! Payload compression as Pulsar's clients do it: a raw block each, its plain size in the metadata.
//!
//! Read: all of them. Written: none, LZ4 and ZSTD, which every client reads. Snappy is the raw block format and not the
//! framed one (`CompressionCodecSnappyJNI` and its Go counterpart); a zlib stream may lack its end, so exactly the plain size is read.

use std::{borrow::Cow, io::Read};

use bytes::Bytes;
use pulsar::message::proto::CompressionType;

/// Level that the Java client uses (`CompressionCodecZstdJNI`).
const ZSTD_LEVEL: i32 = 3;

/// Compresses a payload. LZ4 and ZSTD are what is written; any other kind leaves the payload as it is, so write the kind
/// that is returned into the metadata.
pub(crate) fn compress(kind: CompressionType, payload: Bytes) -> Result<(CompressionType, Bytes), std::io::Error> {
    match kind {
        CompressionType::Lz4 => Ok((kind, lz4_flex::block::compress(&payload).into())),
        CompressionType::Zstd => Ok((kind, zstd::bulk::compress(&payload, ZSTD_LEVEL)?.into())),
        _ => Ok((CompressionType::None, payload)),
    }
}

/// Why a payload cannot be had in plain.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It says to be larger than `limit` bytes.
    TooLarge(String),
    Corrupt(String),
}

/// Decompresses a payload of which the metadata says `plain_size` bytes, of which at most `limit` are allowed: a liar must
/// not take the memory of the process.
pub(crate) fn decompress(kind: i32, payload: Bytes, plain_size: u32, limit: usize) -> Result<Bytes, Unreadable> {
    let corrupt = |error: Cow<str>| Unreadable::Corrupt(format!("the payload cannot be decompressed: {error}"));
    let kind = CompressionType::try_from(kind)
        .map_err(|_| Unreadable::Corrupt(format!("compression type {kind} is not known")))?;
    if kind == CompressionType::None {
        return Ok(payload);
    }
    let size = plain_size as usize;
    if size > limit {
        let what = format!("{} bytes hold {size} in plain ({}), more than {limit}", payload.len(), kind.as_str_name());
        return Err(Unreadable::TooLarge(what));
    }
    let plain = match kind {
        CompressionType::None => return Ok(payload),
        CompressionType::Lz4 => lz4_flex::block::decompress(&payload, size).map_err(|e| corrupt(e.to_string().into())),
        CompressionType::Zstd => zstd::bulk::decompress(&payload, size).map_err(|e| corrupt(e.to_string().into())),
        CompressionType::Zlib => {
            let mut plain = vec![0; size];
            let read = flate2::read::ZlibDecoder::new(&payload[..]).read_exact(&mut plain);
            read.map(|()| plain).map_err(|e| corrupt(e.to_string().into()))
        }
        CompressionType::Snappy => match snap::raw::decompress_len(&payload) {
            Ok(said) if said == size => {
                snap::raw::Decoder::new().decompress_vec(&payload).map_err(|e| corrupt(e.to_string().into()))
            }
            Ok(said) => Err(corrupt(format!("it holds {said} bytes and the metadata says {size}").into())),
            Err(error) => Err(corrupt(error.to_string().into())),
        },
    }?;
    if plain.len() != size {
        return Err(corrupt(format!("it holds {} bytes and the metadata says {size}", plain.len()).into()));
    }
    Ok(plain.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    fn plain() -> Bytes {
        b"the same words, the same words, the same words and others".repeat(40).into()
    }

    fn packed(kind: CompressionType) -> Bytes {
        match kind {
            CompressionType::Zlib => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(&plain()).unwrap();
                encoder.finish().unwrap().into()
            }
            CompressionType::Snappy => snap::raw::Encoder::new().compress_vec(&plain()).unwrap().into(),
            kind => compress(kind, plain()).unwrap().1,
        }
    }

    const ALL: [CompressionType; 5] = [
        CompressionType::None,
        CompressionType::Lz4,
        CompressionType::Zlib,
        CompressionType::Zstd,
        CompressionType::Snappy,
    ];

    #[test]
    fn what_any_client_compressed_is_read() {
        for kind in ALL {
            let packed = packed(kind);
            assert!(kind == CompressionType::None || packed.len() < plain().len());
            assert_eq!(decompress(kind as i32, packed, plain().len() as u32, 1 << 20), Ok(plain()), "{kind:?}");
        }
    }

    /// The words above, four times, as the Java client 4.2.4 compresses them.
    const FROM_JAVA: [(CompressionType, &str); 4] = [
        (
            CompressionType::Lz4,
            "ff017468652073616d6520776f7264732c2010000bbf20616e64206f746865727329000b0c49000f390065507468657273",
        ),
        (CompressionType::Zlib, "789c2ac94855284ecc4d5528cf2f4a29d65128c1cb5748cc4b51c8078a1515e35738a83402000000ffff"),
        (
            CompressionType::Zstd,
            "28b52ffd24e44d0100d87468652073616d6520776f7264732c2020616e64206f746865727304009aab1400029812bd11e71207245ae6",
        ),
        (
            CompressionType::Snappy,
            "e4013c7468652073616d6520776f7264732c207610002820616e64206f74686572737629003e4900fe3900f23900",
        ),
    ];

    #[test]
    fn what_the_java_client_compressed_is_read() {
        let words = plain().slice(..57 * 4);
        for (kind, hex) in FROM_JAVA {
            let digits: Vec<u8> = hex.chars().map(|c| c.to_digit(16).unwrap() as u8).collect();
            let packed: Bytes = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
            assert_eq!(decompress(kind as i32, packed, words.len() as u32, 1 << 20), Ok(words.clone()), "{kind:?}");
        }
    }

    #[test]
    fn a_zlib_stream_without_its_end_is_read() {
        let packed = packed(CompressionType::Zlib);
        let cut = packed.slice(..packed.len() - 4);
        assert_eq!(decompress(CompressionType::Zlib as i32, cut, plain().len() as u32, 1 << 20), Ok(plain()));
    }

    #[test]
    fn a_payload_that_says_to_be_huge_takes_no_memory() {
        for kind in &ALL[1..] {
            let huge = decompress(*kind as i32, packed(*kind), u32::MAX, 1 << 20);
            assert!(matches!(huge, Err(Unreadable::TooLarge(_))), "{kind:?}");
        }
    }

    #[test]
    fn a_wrong_size_or_spoiled_bytes_are_an_error_and_never_a_panic() {
        let mut random = SmallRng::seed_from_u64(4);
        for kind in &ALL[1..] {
            for wrong in [plain().len() as u32 - 1, plain().len() as u32 + 1] {
                // A zlib stream that holds more than is said is cut there, as the Java client does.
                if (*kind, wrong) != (CompressionType::Zlib, plain().len() as u32 - 1) {
                    let read = decompress(*kind as i32, packed(*kind), wrong, 1 << 20);
                    assert!(matches!(read, Err(Unreadable::Corrupt(_))), "{kind:?} {wrong}");
                }
            }
            for _ in 0..500 {
                let mut spoiled = packed(*kind).to_vec();
                for _ in 0..3 {
                    let at = random.random_range(0..spoiled.len());
                    spoiled[at] = random.random();
                }
                let _ = decompress(*kind as i32, spoiled.into(), plain().len() as u32, 1 << 20);
            }
        }
        assert!(matches!(decompress(9, plain(), 1, 1 << 20), Err(Unreadable::Corrupt(_))));
    }
}
