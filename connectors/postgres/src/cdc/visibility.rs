//! Which transactions a snapshot has seen, as `pg_current_snapshot()` tells: `xmin:xmax:xip,xip`.

/// A snapshot's transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Visibility {
    /// All before this one are over.
    pub xmin: u64,
    /// From this one on, none was over.
    pub xmax: u64,
    running: Vec<u64>,
}

impl Visibility {
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ':');
        let (xmin, xmax) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let running = parts.next()?.split(',').filter(|xid| !xid.is_empty()).map(|xid| xid.parse().ok());
        Some(Self { xmin, xmax, running: running.collect::<Option<_>>()? })
    }

    pub fn show(&self) -> String {
        let running: Vec<String> = self.running.iter().map(u64::to_string).collect();
        format!("{}:{}:{}", self.xmin, self.xmax, running.join(","))
    }

    /// Whether the snapshot has what this transaction did, once it has committed. The log has the lower half of its number only.
    pub fn has_seen(&self, xid: u32) -> bool {
        const ROUND: u64 = 1 << 32;
        let mut full = self.xmax & !(ROUND - 1) | u64::from(xid);
        if full > self.xmax + ROUND / 2 && full >= ROUND {
            full -= ROUND;
        } else if full + ROUND / 2 < self.xmax {
            full += ROUND;
        }
        full < self.xmin || (full < self.xmax && !self.running.contains(&full))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_and_later_ones_are_not_seen() {
        let snapshot = Visibility::parse("10:20:10,14").unwrap();
        assert_eq!(snapshot.show(), "10:20:10,14");
        assert_eq!([9, 10, 11, 14, 19, 20].map(|xid| snapshot.has_seen(xid)), [true, false, true, false, true, false]);
        assert!(Visibility::parse("1:2").is_none());
    }

    #[test]
    fn numbers_wrap_around() {
        let snapshot = Visibility::parse("4294967290:4294967300:4294967299").unwrap();
        assert!(snapshot.has_seen(u32::MAX));
        assert!(snapshot.has_seen(2));
        assert!(!snapshot.has_seen(3));
        assert!(!snapshot.has_seen(4));
    }
}
