//! Places in the server's log.

/// `16/B374D848` as the server writes it.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    Some(u64::from_str_radix(high, 16).ok()? << 32 | u64::from_str_radix(low, 16).ok()?)
}

/// And back.
pub(crate) fn show(lsn: u64) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    #[test]
    fn places_go_there_and_back() {
        assert_eq!(super::parse("16/B374D848"), Some(0x16_b374_d848));
        assert_eq!(super::show(0x16_b374_d848), "16/B374D848");
        assert_eq!(super::parse("x"), None);
    }
}
