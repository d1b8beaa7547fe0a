use std::{
    collections::{BTreeMap, HashMap},
    fmt::Display,
    io,
};

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// A version new enough for name servers to answer in standard JSON, and that every 4.x and 5.x broker serves.
const VERSION: u32 = 453;
const IS_ANSWER: i32 = 1;
/// Larger frames are not ours: a pull answers 256 KiB, or one message, which the broker limits to 4 MiB by default.
pub const LARGEST_FRAME_BYTES: usize = 64 << 20;

/// What is asked of a name server or broker.
#[derive(Clone, Debug)]
pub struct Request {
    pub code: i32,
    /// Sorted, because the signature goes over the values in the order of their names.
    pub fields: BTreeMap<&'static str, String>,
    pub body: Bytes,
}

impl Request {
    pub fn new(code: i32) -> Self {
        Request { code, fields: BTreeMap::new(), body: Bytes::new() }
    }

    pub fn field(mut self, name: &'static str, value: impl Display) -> Self {
        self.fields.insert(name, value.to_string());
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Everything before the body.
    pub fn head(&self, opaque: i32) -> io::Result<BytesMut> {
        let header = Header {
            code: self.code,
            language: "OTHER",
            version: VERSION,
            opaque,
            flag: 0,
            fields: &self.fields,
            encoding: "JSON",
        };
        let header = serde_json::to_vec(&header)?;
        let length = u32::try_from(4 + header.len() + self.body.len()).map_err(io::Error::other)?;
        let mut head = BytesMut::with_capacity(8 + header.len());
        head.put_u32(length);
        head.put_u32(header.len() as u32);
        head.put_slice(&header);
        Ok(head)
    }
}

#[derive(Serialize)]
struct Header<'a> {
    code: i32,
    language: &'static str,
    version: u32,
    opaque: i32,
    flag: i32,
    #[serde(rename = "extFields")]
    fields: &'a BTreeMap<&'static str, String>,
    #[serde(rename = "serializeTypeCurrentRPC")]
    encoding: &'static str,
}

/// What came back. Any code is an answer; [`crate::classify`] says what it means.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub code: i32,
    pub remark: String,
    pub fields: HashMap<String, String>,
    pub body: Bytes,
}

impl Answer {
    /// A number among the fields.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.fields.get(name)?.parse().ok()
    }
}

/// A frame from the other side: an answer to the request `opaque`, or a request of the broker's own.
pub enum Incoming {
    Answer {
        opaque: i32,
        answer: Answer,
    },
    Request {
        code: i32,
    },
    /// In an encoding we did not ask for.
    Foreign,
}

#[derive(Deserialize)]
struct AnswerHeader {
    code: i32,
    opaque: i32,
    #[serde(default)]
    flag: i32,
    remark: Option<String>,
    #[serde(rename = "extFields")]
    fields: Option<HashMap<String, String>>,
}

/// Reads a frame behind its length field.
pub fn decode(mut frame: Bytes) -> io::Result<Incoming> {
    let marked = frame.split_to_checked(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    let marked = marked.ok_or_else(|| invalid("shorter than its header length"))?;
    let header = frame.split_to_checked((marked & 0x00FF_FFFF) as usize);
    let header = header.ok_or_else(|| invalid("shorter than its header"))?;
    if marked >> 24 != 0 {
        return Ok(Incoming::Foreign);
    }
    let header: AnswerHeader = serde_json::from_slice(&header)?;
    if header.flag & IS_ANSWER == 0 {
        return Ok(Incoming::Request { code: header.code });
    }
    let answer = Answer {
        code: header.code,
        remark: header.remark.unwrap_or_default(),
        fields: header.fields.unwrap_or_default(),
        body: frame,
    };
    Ok(Incoming::Answer { opaque: header.opaque, answer })
}

trait SplitChecked: Sized {
    fn split_to_checked(&mut self, bytes: usize) -> Option<Self>;
}

impl SplitChecked for Bytes {
    fn split_to_checked(&mut self, bytes: usize) -> Option<Bytes> {
        (bytes <= self.len()).then(|| self.split_to(bytes))
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a remoting frame {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_length_header_and_body() {
        let request = Request::new(11).field("topic", "t").body(&b"xyz"[..]);
        let head = request.head(7).unwrap();
        let length = u32::from_be_bytes(head[..4].try_into().unwrap()) as usize;
        let header = u32::from_be_bytes(head[4..8].try_into().unwrap()) as usize;
        assert_eq!((length, header), (4 + header + 3, head.len() - 8));
        let json: serde_json::Value = serde_json::from_slice(&head[8..]).unwrap();
        assert_eq!((&json["code"], &json["opaque"], &json["extFields"]["topic"]), (&11.into(), &7.into(), &"t".into()));
    }

    #[test]
    fn an_answer_keeps_code_remark_fields_and_body() {
        let header = br#"{"code":17,"flag":1,"opaque":9,"remark":"no route","extFields":{"offset":"12"}}"#;
        let mut frame = (header.len() as u32).to_be_bytes().to_vec();
        frame.extend(header);
        frame.extend(b"body");
        let Incoming::Answer { opaque, answer } = decode(frame.into()).unwrap() else { panic!("no answer") };
        assert_eq!(
            (opaque, answer.code, answer.remark.as_str(), answer.number("offset")),
            (9, 17, "no route", Some(12))
        );
        assert_eq!(&answer.body[..], b"body");
    }

    #[test]
    fn bytes_that_are_no_frame_are_an_error_and_never_a_panic() {
        for bad in [&b""[..], b"\0\0", b"\0\0\0\xFFabc", b"\0\0\0\x02{}", b"\x01\0\0\x09{}"] {
            assert!(decode(Bytes::copy_from_slice(bad)).is_err());
        }
        assert!(matches!(decode(Bytes::from_static(b"\x01\0\0\x02{}")), Ok(Incoming::Foreign)));
    }
}
