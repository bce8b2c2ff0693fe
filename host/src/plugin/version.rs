//! Order of version texts: `1.10.0` after `1.9.2`, `2.0.0-rc1` before `2.0.0`.

use std::cmp::Ordering;

/// Compares two versions; anything that is not a number compares as text.
pub fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.split('+').next().unwrap_or(a), b.split('+').next().unwrap_or(b));
    let (a_release, a_pre) = a.split_once('-').map_or((a, None), |(release, pre)| (release, Some(pre)));
    let (b_release, b_pre) = b.split_once('-').map_or((b, None), |(release, pre)| (release, Some(pre)));
    parts(a_release, b_release).then_with(|| match (a_pre, b_pre) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(a), Some(b)) => parts(a, b),
    })
}

fn parts(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        let order = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(a), Some(b)) => match (a.parse::<u64>(), b.parse::<u64>()) {
                (Ok(a), Ok(b)) => a.cmp(&b),
                (Ok(_), Err(_)) => Ordering::Less,
                (Err(_), Ok(_)) => Ordering::Greater,
                (Err(_), Err(_)) => a.cmp(b),
            },
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_as_people_expect() {
        let ascending = ["0.9", "1.0.0-alpha", "1.0.0-rc.2", "1.0.0-rc.10", "1.0.0", "1.9.2", "1.10.0", "2.0.0"];
        for pair in ascending.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        assert_eq!(compare("1.0.0+build1", "1.0.0"), Ordering::Equal);
    }
}
