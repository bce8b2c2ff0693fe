//! Which cuts a chain may have.
//!
//! Behind a cut, event time is that of the slowest partition in front of it, which works as long as each of them moves in the order of
//! time. What a stage makes does, and so does what is read from an input's partition. Records that come through a stage behind a cut as
//! they are do not: there, the records of all partitions are mixed, and the slow ones' would be late behind the next cut.

use super::stateful::Stateful;

/// What is known of a transform that keeps state.
pub struct Facts {
    alias: String,
    /// Whether the chain is cut in front of it.
    cut: bool,
    makes_records: bool,
    depends_on_time: bool,
}

impl Facts {
    /// Of a transform.
    pub fn of(alias: &str, repartition: Option<&str>, stateful: &dyn Stateful) -> Self {
        Self {
            alias: alias.to_owned(),
            cut: repartition.map(str::trim) == Some("auto"),
            makes_records: stateful.makes_records(),
            depends_on_time: stateful.depends_on_time(),
        }
    }
}

/// Whether the cuts are possible; otherwise the alias of the transform behind the one that is not, and why.
pub fn check(transforms: &[Facts]) -> Result<(), (String, String)> {
    let (mut stage, mut made) = (0, false);
    // The cut in front of this stage, if what comes through it is mixed.
    let mut mixed: Option<&str> = None;
    // The transform behind the cut before.
    let mut before = "";
    for facts in transforms {
        if facts.cut {
            mixed = (stage > 0 && !made).then_some(before);
            (stage, made, before) = (stage + 1, false, &facts.alias);
        }
        if let Some(other) = mixed.filter(|_| !made && facts.depends_on_time) {
            let message = format!(
                "transforms.{before}.repartition=auto cannot follow that of {other}: {other} passes records of all partitions on as they \
                 come, and those of slow partitions would be late for {}. Leave repartition=auto out at one of them (whose records have to \
                 be partitioned by its key already, then), or use an Aggregate with window=none and state.ttl.ms=-1, for which nothing is late",
                facts.alias
            );
            return Err((before.to_owned(), message));
        }
        made |= facts.makes_records;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(alias: &str, cut: bool, makes_records: bool, depends_on_time: bool) -> Facts {
        Facts { alias: alias.to_owned(), cut, makes_records, depends_on_time }
    }

    #[test]
    fn mixed_records_come_to_nothing_that_depends_on_time() {
        let once = || facts("once", true, false, true);
        let sums = |depends_on_time| facts("sums", true, true, depends_on_time);
        let (alias, message) = check(&[once(), sums(true)]).unwrap_err();
        assert_eq!(alias, "sums");
        assert!(message.contains("that of once"), "{message}");
        assert_eq!(check(&[once(), sums(false)]), Ok(()));
        // What is made in between, or comes from the input itself, is in order.
        assert_eq!(check(&[sums(true), sums(true), once()]), Ok(()));
        assert_eq!(check(&[facts("once", false, false, true), sums(true)]), Ok(()));
        let makes = facts("makes", false, true, true);
        assert_eq!(check(&[once(), makes, sums(true)]), Ok(()));
        // Also what follows in the same stage.
        let tags = facts("tags", true, false, false);
        assert!(check(&[once(), tags, facts("late", false, true, true)]).is_err());
    }
}
