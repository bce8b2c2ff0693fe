//! What is refused, and with which words.

use crate::transform::TransformChain;
use tributary_sdk::Config;

fn error(pairs: &[(&str, &str)]) -> String {
    let mut config: Config = [("transforms".to_owned(), "s".to_owned())].into_iter().collect();
    for (key, value) in pairs {
        config.0.insert(format!("transforms.s.{key}"), (*value).to_owned());
    }
    match TransformChain::build(&config, &mut |class, _| panic!("no class {class}")) {
        Ok(_) => panic!("{pairs:?} was taken"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_cannot_work_is_refused() {
    let aggregate = |pairs: &[(&str, &str)]| {
        let all: Vec<_> = [("type", "Aggregate"), ("aggs", "n:count()")].iter().chain(pairs).copied().collect();
        error(&all)
    };
    for (pairs, message) in [
        (&[][..], "missing required configuration \"window\""),
        (&[("window", "weekly")], "String must be one of: tumbling, hopping, sliding, session, none"),
        (&[("window", "tumbling")], "window=tumbling needs size.ms"),
        (&[("window", "tumbling"), ("size.ms", "0")], "at least 1"),
        (&[("window", "tumbling"), ("size.ms", "9"), ("gap.ms", "1")], "window=tumbling does not take it"),
        (&[("window", "hopping"), ("size.ms", "9")], "window=hopping needs advance.ms"),
        (&[("window", "hopping"), ("size.ms", "9"), ("advance.ms", "10")], "at most size.ms (9)"),
        (&[("window", "hopping"), ("size.ms", "100000"), ("advance.ms", "1")], "100000 windows"),
        (&[("window", "session")], "window=session needs gap.ms"),
        (&[("window", "none"), ("state.ttl.ms", "5")], "emit=close would emit nothing"),
        (&[("window", "none"), ("emit", "change")], "set state.ttl.ms"),
        (
            &[("window", "none"), ("emit", "change"), ("state.ttl.ms", "-1"), ("lateness.ms", "5")],
            "leave lateness.ms out",
        ),
        (&[("window", "sliding"), ("size.ms", "5"), ("emit", "change")], "window=sliding emits results on close only"),
        (&[("window", "tumbling"), ("size.ms", "5"), ("state.ttl.ms", "5")], "forgets its windows when they close"),
        (&[("window", "tumbling"), ("size.ms", "5"), ("emit", "interval")], "needs emit.interval.ms"),
        (&[("window", "tumbling"), ("size.ms", "5"), ("emit.interval.ms", "5")], "used with emit=interval only"),
        (&[("window", "tumbling"), ("size.ms", "5"), ("late.action", "route")], "late.action=route needs late.topic"),
        (&[("window", "tumbling"), ("size.ms", "5"), ("late.topic", "t")], "used with late.action=route only"),
        (&[("window", "tumbling"), ("size.ms", "5"), ("key", "v.")], "for configuration key"),
        (&[("window", "tumbling"), ("size.ms", "5"), ("state.max.bytes", "5")], "at least 1048576"),
    ] {
        let error = aggregate(pairs);
        assert!(error.contains(message), "{pairs:?}: {error}");
    }
    let aggs = error(&[("type", "Aggregate"), ("window", "tumbling"), ("size.ms", "5"), ("aggs", "n:median(v.x)")]);
    assert!(aggs.contains("there is no aggregate median"), "{aggs}");
    for (pairs, message) in [
        (&[("ttl.ms", "0")][..], "at least 1"),
        (&[("order.by", "v.x")], "set keep=last"),
        (&[("keep", "last"), ("action", "tag")], "set one of them otherwise"),
        (&[("keep", "middle")], "String must be one of: first, last"),
    ] {
        let all: Vec<_> = [("type", "Deduplicate")].iter().chain(pairs).copied().collect();
        let error = error(&all);
        assert!(error.contains(message), "{pairs:?}: {error}");
    }
}

#[test]
fn a_task_without_state_says_so() {
    let config: Config =
        [("transforms", "s"), ("transforms.s.type", "Deduplicate"), ("transforms.s.key", "v.k")].into_iter().collect();
    let mut chain = TransformChain::build(&config, &mut |class, _| panic!("no class {class}")).unwrap();
    assert!(chain.is_stateful());
    assert_eq!(chain.state_bytes(), 256 << 20);
    let error = chain.apply(crate::transform::tests::json_batch(&[Some("{\"k\":1}")])).unwrap_err();
    assert!(error.to_string().contains("no state"), "{error}");
}
