//! Protobuf's wire format, and the list of message indexes that stands before a value.

/// A value as it stands on the wire.
#[derive(Debug, Clone, Copy)]
pub enum Raw<'d> {
    /// A variable-length number.
    Varint(u64),
    /// Four bytes.
    Four(u32),
    /// Eight bytes.
    Eight(u64),
    /// Length and bytes.
    Bytes(&'d [u8]),
}

/// What users see of a value that ends too early.
pub const TOO_SHORT: &str = "the value ends too early; it was written with another schema, or is damaged";

/// Takes a variable-length number.
pub fn varint(input: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0_u64;
    for (at, &byte) in input.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            *input = &input[at + 1..];
            return Ok(value);
        }
    }
    Err(if input.len() < 10 { TOO_SHORT } else { "a number has more than 10 bytes" }.to_owned())
}

fn take<'d>(input: &mut &'d [u8], length: usize) -> Result<&'d [u8], String> {
    let (taken, rest) = input.split_at_checked(length).ok_or(TOO_SHORT)?;
    *input = rest;
    Ok(taken)
}

/// Takes four bytes as a number.
pub fn four(input: &mut &[u8]) -> Result<u32, String> {
    Ok(u32::from_le_bytes(take(input, 4)?.try_into().map_err(|_| TOO_SHORT)?))
}

/// Takes eight bytes as a number.
pub fn eight(input: &mut &[u8]) -> Result<u64, String> {
    Ok(u64::from_le_bytes(take(input, 8)?.try_into().map_err(|_| TOO_SHORT)?))
}

/// Takes a field: its number and its value. A group, which nothing here reads, is skipped and has none.
pub fn field<'d>(input: &mut &'d [u8]) -> Result<(u32, Option<Raw<'d>>), String> {
    let tag = varint(input)?;
    let number = u32::try_from(tag >> 3).map_err(|_| "a field's number is too large")?;
    if number == 0 {
        return Err("a field has the number 0; the value was written with another schema, or is damaged".to_owned());
    }
    Ok((
        number,
        match tag & 7 {
            0 => Some(Raw::Varint(varint(input)?)),
            1 => Some(Raw::Eight(eight(input)?)),
            2 => {
                let length = usize::try_from(varint(input)?).map_err(|_| TOO_SHORT)?;
                Some(Raw::Bytes(take(input, length)?))
            }
            3 => {
                let mut open = 1_usize;
                while open > 0 {
                    let tag = varint(input)?;
                    match tag & 7 {
                        0 => drop(varint(input)?),
                        1 => drop(eight(input)?),
                        2 => {
                            let length = usize::try_from(varint(input)?).map_err(|_| TOO_SHORT)?;
                            take(input, length)?;
                        }
                        3 => open += 1,
                        4 => open -= 1,
                        5 => drop(four(input)?),
                        _ => return Err("a field has an unknown wire type".to_owned()),
                    }
                }
                None
            }
            5 => Some(Raw::Four(four(input)?)),
            _ => return Err("a field has an unknown wire type; the value is damaged".to_owned()),
        },
    ))
}

/// Appends a variable-length number.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a field's number and wire type.
pub fn put_tag(out: &mut Vec<u8>, number: u32, wire: u8) {
    put_varint(out, u64::from(number) << 3 | u64::from(wire));
}

/// Appends length and bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Signed numbers whose size goes with their magnitude.
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The number that [`zigzag`] made this of.
pub fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// The list of message indexes at the beginning, and its length in bytes. The list `[0]` is one zero byte.
pub fn indexes(input: &[u8]) -> Result<(Vec<usize>, usize), String> {
    let mut rest = input;
    let count = unzigzag(varint(&mut rest)?);
    if count == 0 {
        return Ok((vec![0], input.len() - rest.len()));
    }
    if !(1..=100).contains(&count) {
        return Err(format!(
            "the value begins with {count} message indexes; it was not written by a Protobuf serializer"
        ));
    }
    let mut indexes = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let index = unzigzag(varint(&mut rest)?);
        indexes.push(usize::try_from(index).map_err(|_| format!("a message index is {index}"))?);
    }
    Ok((indexes, input.len() - rest.len()))
}

/// Appends such a list.
pub fn put_indexes(out: &mut Vec<u8>, indexes: &[usize]) {
    if indexes == [0] {
        out.push(0);
        return;
    }
    put_varint(out, zigzag(indexes.len() as i64));
    indexes.iter().for_each(|index| put_varint(out, zigzag(*index as i64)));
}
