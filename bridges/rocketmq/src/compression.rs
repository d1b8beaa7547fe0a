//! Bodies that other producers compressed (`CompressionType.java`): zlib, LZ4 frames, zstd.

use std::io::Read;

use bytes::Bytes;

// MessageSysFlag.java
const COMPRESSED: u32 = 1;
const TYPE: u32 = 7 << 8;
const LZ4: u32 = 1 << 8;
const ZSTD: u32 = 2 << 8;
const ZLIB: u32 = 3 << 8;

/// The plain body. More than `largest` bytes is an error, whatever the compressed size.
pub fn decompress(body: Bytes, sys_flag: u32, largest: usize) -> Result<Bytes, String> {
    if sys_flag & COMPRESSED == 0 {
        return Ok(body);
    }
    let reader = body.as_ref();
    match sys_flag & TYPE {
        LZ4 => read(lz4_flex::frame::FrameDecoder::new(reader), largest, "LZ4"),
        ZSTD => read(zstd::stream::read::Decoder::new(reader).map_err(|e| e.to_string())?, largest, "zstd"),
        // Clients before 5.0 name no type.
        ZLIB | 0 => read(flate2::read::ZlibDecoder::new(reader), largest, "zlib"),
        other => Err(format!("the body is compressed in an unknown way ({other:#x})")),
    }
}

/// As [`decompress`], where it is not told what the body was compressed with: every kind begins in a way of its own.
#[cfg(feature = "proxy")]
pub fn decompress_unnamed(body: Bytes, largest: usize) -> Result<Bytes, String> {
    let reader = body.as_ref();
    match *reader {
        [0x04, 0x22, 0x4D, 0x18, ..] => decompress(body, COMPRESSED | LZ4, largest),
        [0x28, 0xB5, 0x2F, 0xFD, ..] => decompress(body, COMPRESSED | ZSTD, largest),
        [0x1F, 0x8B, ..] => read(flate2::read::GzDecoder::new(reader), largest, "gzip"),
        // RFC 1950: deflate, and a checksum over the first two bytes.
        [first, second, ..] if first & 0x0F == 8 && u16::from_be_bytes([first, second]) % 31 == 0 => {
            decompress(body, COMPRESSED | ZLIB, largest)
        }
        _ => Err("the body is compressed in an unknown way".into()),
    }
}

fn read(reader: impl Read, largest: usize, kind: &str) -> Result<Bytes, String> {
    let mut plain = Vec::new();
    reader
        .take(largest as u64 + 1)
        .read_to_end(&mut plain)
        .map_err(|error| format!("the body is no {kind}: {error}"))?;
    if plain.len() > largest {
        return Err(format!("the {kind} body is larger than {largest} bytes"));
    }
    Ok(plain.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn packed() -> [(u32, Vec<u8>); 4] {
        let plain = vec![b'x'; 10_000];
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        zlib.write_all(&plain).unwrap();
        let zlib = zlib.finish().unwrap();
        let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
        lz4.write_all(&plain).unwrap();
        [
            (0, zlib.clone()),
            (ZLIB, zlib),
            (LZ4, lz4.finish().unwrap()),
            (ZSTD, zstd::encode_all(&plain[..], 0).unwrap()),
        ]
    }

    #[test]
    fn every_kind_is_undone_and_a_bomb_is_refused() {
        for (kind, body) in packed() {
            let plain = decompress(body.clone().into(), COMPRESSED | kind, 10_000).unwrap();
            assert_eq!((plain.len(), plain[0]), (10_000, b'x'));
            assert!(decompress(body.into(), COMPRESSED | kind, 9_999).unwrap_err().contains("larger"));
            assert!(decompress(Bytes::from_static(b"no such thing"), COMPRESSED | kind, 100).is_err());
        }
        assert_eq!(decompress(Bytes::from_static(b"plain"), LZ4, 1).unwrap(), "plain");
    }
}
