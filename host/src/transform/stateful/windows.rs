//! Which windows a time belongs to. All are half-open: `start <= time < end`.

/// Kinds of windows, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Windows {
    /// `size` long, one after the other, from the epoch on.
    Tumbling { size: i64 },
    /// `size` long, one every `advance`.
    Hopping { size: i64, advance: i64 },
    /// `size` long, ending with a record or beginning behind one.
    Sliding { size: i64 },
    /// Records with less than `gap` between them.
    Session { gap: i64 },
    /// One for all time.
    None,
}

impl Windows {
    /// Starts and ends of the fixed windows that hold a time, the latest first.
    pub fn of(self, time: i64) -> impl Iterator<Item = (i64, i64)> {
        let (size, advance) = match self {
            Self::Tumbling { size } => (size, size),
            Self::Hopping { size, advance } => (size, advance),
            _ => (0, 1),
        };
        let latest = time.div_euclid(advance) * advance;
        (0..)
            .map(move |back| latest - back * advance)
            .take_while(move |start| start + size > time)
            .map(move |start| (start, start + size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_windows_begin_at_the_epoch() {
        let of = |windows: Windows, time| windows.of(time).collect::<Vec<_>>();
        let tumbling = Windows::Tumbling { size: 10 };
        assert_eq!(of(tumbling, 0), [(0, 10)]);
        assert_eq!(of(tumbling, 9), [(0, 10)]);
        assert_eq!(of(tumbling, 10), [(10, 20)]);
        assert_eq!(of(tumbling, -1), [(-10, 0)]);
        let hopping = Windows::Hopping { size: 10, advance: 4 };
        assert_eq!(of(hopping, 9), [(8, 18), (4, 14), (0, 10)]);
        assert_eq!(of(hopping, 10), [(8, 18), (4, 14)]);
        let gaps = Windows::Hopping { size: 2, advance: 5 };
        assert_eq!(of(gaps, 6), [(5, 7)]);
        assert_eq!(of(gaps, 7), []);
        assert_eq!(of(Windows::None, 7), []);
    }
}
