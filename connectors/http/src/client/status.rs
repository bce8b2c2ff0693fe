//! Classes of statuses, as configs name them: `429`, `5xx`.

use hyper::StatusCode;

/// Some statuses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Statuses(Vec<(u16, u16)>);

impl Statuses {
    /// Reads a list such as `408, 429, 5xx`.
    pub fn parse<'a>(items: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let one = |item: &str| {
            let wrong = || format!("{item:?} is no status; write 429 or 5xx");
            let item = item.trim().to_ascii_lowercase();
            let (from, to) = match item.strip_suffix("xx") {
                Some(class) => {
                    let class: u16 = class.parse().map_err(|_| wrong())?;
                    (class.saturating_mul(100), class.saturating_mul(100).saturating_add(99))
                }
                None => item.parse().map(|status| (status, status)).map_err(|_| wrong())?,
            };
            if (300..=599).contains(&from) { Ok((from, to)) } else { Err(wrong()) }
        };
        items.into_iter().map(one).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a status is one of them.
    pub fn contains(&self, status: StatusCode) -> bool {
        self.0.iter().any(|(from, to)| (*from..=*to).contains(&status.as_u16()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read() {
        let statuses = Statuses::parse(["408", " 429", "5XX"]).unwrap();
        for (status, is) in [(408, true), (429, true), (500, true), (599, true), (404, false), (200, false)] {
            assert_eq!(statuses.contains(StatusCode::from_u16(status).unwrap()), is, "{status}");
        }
        for wrong in ["", "xx", "2xx", "200", "abc", "6xx", "99999", "999xx"] {
            assert!(Statuses::parse([wrong]).is_err(), "{wrong}");
        }
    }
}
