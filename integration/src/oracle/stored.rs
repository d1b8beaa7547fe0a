//! Messages as RocketMQ's pull hands them out (`MessageDecoder.java`).

use std::io::Read;

use anyhow::{Context, Result, bail, ensure};

/// One message of a queue.
pub struct Stored {
    pub offset: u64,
    /// ms, by the producer's clock.
    pub born: i64,
    pub body: Vec<u8>,
    pub properties: Vec<u8>,
}

const MAGIC_V1: u32 = 0xDAA3_20A7;
const MAGIC_V2: u32 = 0xDAA3_20AB;
// MessageSysFlag.java
const COMPRESSED: u32 = 1;
const BORN_HOST_V6: u32 = 1 << 4;
const STORE_HOST_V6: u32 = 1 << 5;

/// All messages of a pull's answer.
pub fn stored(mut answer: &[u8]) -> Result<Vec<Stored>> {
    let mut all = Vec::new();
    while !answer.is_empty() {
        all.push(one(&mut answer)?);
    }
    Ok(all)
}

fn one(input: &mut &[u8]) -> Result<Stored> {
    take(input, 4)?;
    let magic = number(input, 4)? as u32;
    take(input, 12)?;
    let offset = number(input, 8)?;
    take(input, 8)?;
    let flags = number(input, 4)? as u32;
    let born = number(input, 8)? as i64;
    let host = |v6| if flags & v6 != 0 { 20 } else { 8 };
    take(input, host(BORN_HOST_V6) + 8 + host(STORE_HOST_V6) + 12)?;
    let length = number(input, 4)? as usize;
    let body = take(input, length)?.to_vec();
    ensure!(flags & COMPRESSED == 0, "compressed at {offset}: nobody asked for it");
    let topic = match magic {
        MAGIC_V1 => number(input, 1)?,
        MAGIC_V2 => number(input, 2)?,
        _ => bail!("magic number {magic:#x} at {offset}"),
    };
    take(input, topic as usize)?;
    let length = number(input, 2)? as usize;
    let properties = take(input, length)?.to_vec();
    Ok(Stored { offset, born, body, properties })
}

fn take<'a>(input: &mut &'a [u8], count: usize) -> Result<&'a [u8]> {
    let (taken, rest) = input.split_at_checked(count).context("a message is cut off")?;
    *input = rest;
    Ok(taken)
}

fn number(input: &mut &[u8], bytes: usize) -> Result<u64> {
    let mut be = [0; 8];
    input.read_exact(be.get_mut(8 - bytes..).context("too wide")?)?;
    Ok(u64::from_be_bytes(be))
}
