//! `Aggregate` against models that look at all records at once.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::rig::{Input, Output, Rig, records, watermarks};

const AGGS: &str = "n:count(),c:count(v.x),s:sum(v.x),lo:min(v.x),hi:max(v.x),a:avg(v.x),f:first(v.x),l:last(v.x),all:collect(v.x,5),d:distinct(v.x)";

/// What a window should give.
fn expected(key: i64, window: Option<(i64, i64)>, inputs: &[Input]) -> Output {
    let mut sorted = inputs.to_vec();
    sorted.sort_by_key(|input| input.time);
    let xs: Vec<i64> = sorted.iter().filter_map(|input| input.x).collect();
    let number = |number: Option<i64>| number.map_or("null".to_owned(), |number| number.to_string());
    let sum: i64 = xs.iter().sum();
    let avg = match xs.len() {
        0 => "null".to_owned(),
        count => crate::converter::json::text::java_double(sum as f64 / count as f64),
    };
    let all: Vec<String> = xs.iter().take(5).map(i64::to_string).collect();
    let (start, end) = match window {
        Some((start, end)) => (format!(",\"window_start\":{start}"), format!(",\"window_end\":{end}")),
        None => (String::new(), String::new()),
    };
    let value = format!(
        r#"{{"key":{key}{start}{end},"n":{},"c":{},"s":{},"lo":{},"hi":{},"a":{avg},"f":{},"l":{},"all":[{}],"d":{}}}"#,
        inputs.len(),
        xs.len(),
        number(xs.first().map(|_| sum)),
        number(xs.iter().min().copied()),
        number(xs.iter().max().copied()),
        number(xs.first().copied()),
        number(xs.last().copied()),
        all.join(","),
        xs.iter().collect::<BTreeSet<_>>().len(),
    );
    let timestamp = window.map_or_else(|| sorted.last().unwrap().time, |(_, end)| end - 1);
    Output { key: format!(r#"{{"key":{key}{start}}}"#), value: Some(value), timestamp, topic: "input".to_owned() }
}

/// Windows by key and start: end, when they are over, and their records in the order of coming.
type Model = BTreeMap<(i64, i64), (i64, i64, Vec<Input>)>;

struct Case {
    bound: i64,
    lateness: i64,
    size: i64,
    advance: i64,
}

impl Case {
    fn fixed(&self, inputs: &[Input]) -> (Model, u64) {
        let (before, _) = watermarks(inputs, self.bound);
        let (mut model, mut late) = (Model::new(), 0);
        for (input, before) in inputs.iter().zip(before) {
            let mut counted = false;
            for start in (input.time - self.size + 1..=input.time).filter(|start| start.rem_euclid(self.advance) == 0) {
                let (end, over) = (start + self.size, start + self.size + self.lateness);
                if over > before {
                    counted = true;
                    model.entry((input.key, start)).or_insert((end, over, Vec::new())).2.push(*input);
                }
            }
            late += u64::from(!counted);
        }
        (model, late)
    }

    fn sliding(&self, inputs: &[Input]) -> (Model, u64) {
        let (before, _) = watermarks(inputs, self.bound);
        let taken: Vec<Input> = inputs
            .iter()
            .zip(before)
            .filter(|(input, before)| input.time + 1 + self.lateness > *before)
            .map(|(input, _)| *input)
            .collect();
        let mut model = Model::new();
        for input in &taken {
            for start in [input.time + 1 - self.size, input.time + 1] {
                let end = start + self.size;
                let within = |other: &&Input| other.key == input.key && (start..end).contains(&other.time);
                let inside: Vec<Input> = taken.iter().filter(within).copied().collect();
                if !inside.is_empty() {
                    model.insert((input.key, start), (end, end + self.lateness, inside));
                }
            }
        }
        (model, (inputs.len() - taken.len()) as u64)
    }

    fn sessions(&self, inputs: &[Input]) -> (Model, u64) {
        let (before, _) = watermarks(inputs, self.bound);
        let (mut open, mut model, mut late): (Vec<Vec<(usize, Input)>>, _, _) = (Vec::new(), Model::new(), 0);
        let latest = |session: &[(usize, Input)]| session.iter().map(|(_, input)| input.time).max().unwrap();
        let over = |session: &[(usize, Input)]| latest(session) + self.size + self.lateness;
        let mut close = |session: Vec<(usize, Input)>| {
            let start = session.iter().map(|(_, input)| input.time).min().unwrap();
            let (end, over) = (latest(&session) + self.size, over(&session));
            let mut session = session;
            session.sort_by_key(|(at, _)| *at);
            let inputs: Vec<Input> = session.into_iter().map(|(_, input)| input).collect();
            model.insert((inputs_key(&inputs), start), (end, over, inputs));
        };
        for (at, (input, before)) in inputs.iter().zip(before).enumerate() {
            let (closed, still): (Vec<_>, Vec<_>) = open.into_iter().partition(|session| over(session) <= before);
            closed.into_iter().for_each(&mut close);
            open = still;
            let near = |session: &Vec<(usize, Input)>| {
                session[0].1.key == input.key
                    && session.iter().any(|(_, other)| (other.time - input.time).abs() < self.size)
            };
            let (touched, others): (Vec<_>, Vec<_>) = open.into_iter().partition(near);
            open = others;
            if touched.is_empty() && input.time + self.size + self.lateness <= before {
                late += 1;
                continue;
            }
            let mut session: Vec<(usize, Input)> = touched.concat();
            session.push((at, *input));
            open.push(session);
        }
        open.into_iter().for_each(&mut close);
        (model, late)
    }
}

fn inputs_key(inputs: &[Input]) -> i64 {
    inputs[0].key
}

fn config<'a>(case: &Case, window: &'a str, texts: &'a mut Vec<String>) -> Vec<(&'a str, &'a str)> {
    *texts = vec![case.bound.to_string(), case.lateness.to_string(), case.size.to_string(), case.advance.to_string()];
    let mut pairs = vec![
        ("type", "tributary.transforms.Aggregate"),
        ("window", window),
        ("aggs", AGGS),
        ("key", "v.k"),
        ("eventtime.max.out.of.orderness.ms", texts[0].as_str()),
        ("lateness.ms", texts[1].as_str()),
    ];
    match window {
        "session" => pairs.push(("gap.ms", &texts[2])),
        "hopping" => pairs.extend([("size.ms", texts[2].as_str()), ("advance.ms", texts[3].as_str())]),
        _ => pairs.push(("size.ms", &texts[2])),
    }
    pairs
}

fn case(random: &mut StdRng, window: &str) -> Case {
    let size = random.random_range(1..40);
    let advance = if window == "hopping" { random.random_range(1..=size) } else { size };
    Case { bound: random.random_range(0..20), lateness: [0, 0, 7][random.random_range(0..3)], size, advance }
}

fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("STATEFUL_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(25);
    0..count
}

fn check(window: &str, model: fn(&Case, &[Input]) -> (Model, u64)) {
    for seed in seeds() {
        let mut random = StdRng::seed_from_u64(seed);
        let case = case(&mut random, window);
        let inputs = records(&mut random, case.bound);
        let (model, late) = model(&case, &inputs);
        let (_, last) = watermarks(&inputs, case.bound);
        let mut expected: Vec<Output> = model
            .iter()
            .filter(|(_, (_, over, _))| *over <= last)
            .map(|((key, start), (end, _, inputs))| expected(*key, Some((*start, *end)), inputs))
            .collect();
        let mut texts = Vec::new();
        let mut rig =
            Rig::new(&config(&case, window, &mut texts), seed % 2 == 1, [1, 1 << 20][(seed / 2 % 2) as usize]);
        rig.run(seed, &inputs);
        rig.outputs.sort();
        expected.sort();
        assert_eq!(rig.outputs, expected, "seed {seed}, {window}");
        assert_eq!((rig.late, rig.failures.len()), (late, 0), "seed {seed}, {window}");
    }
}

#[test]
fn tumbling_windows_are_those_of_a_batch() {
    check("tumbling", Case::fixed);
}

#[test]
fn hopping_windows_are_those_of_a_batch() {
    check("hopping", Case::fixed);
}

#[test]
fn sliding_windows_are_those_of_a_batch() {
    check("sliding", Case::sliding);
}

#[test]
fn sessions_are_those_of_a_batch() {
    check("session", Case::sessions);
}

/// With results before the end, the last one of each window is that of a batch, and windows that are no more have a tombstone.
#[test]
fn the_last_results_are_those_of_a_batch() {
    for seed in seeds() {
        for (window, model) in [
            ("tumbling", Case::fixed as fn(&Case, &[Input]) -> (Model, u64)),
            ("hopping", Case::fixed),
            ("session", Case::sessions),
        ] {
            for emit in ["change", "interval"] {
                let mut random = StdRng::seed_from_u64(seed);
                let case = case(&mut random, window);
                let mut inputs = records(&mut random, case.bound);
                // So that all is over, and intervals have passed.
                let end = inputs.iter().map(|input| input.time).max().unwrap() + 10_000;
                inputs.push(Input { key: 99, time: end, x: None });
                let (model, _) = model(&case, &inputs);
                let expected: BTreeMap<String, Output> = model
                    .iter()
                    .filter(|((key, _), _)| *key != 99)
                    .map(|((key, start), (end, _, inputs))| expected(*key, Some((*start, *end)), inputs))
                    .map(|output| (output.key.clone(), output))
                    .collect();
                let mut texts = Vec::new();
                let mut pairs = config(&case, window, &mut texts);
                pairs.push(("emit", emit));
                if emit == "interval" {
                    pairs.push(("emit.interval.ms", "13"));
                }
                let mut rig = Rig::new(&pairs, seed % 2 == 1, [1, 1 << 20][(seed / 2 % 2) as usize]);
                rig.run(seed, &inputs);
                let mut last: BTreeMap<String, Output> =
                    rig.outputs.iter().map(|output| (output.key.clone(), output.clone())).collect();
                last.retain(|key, output| output.value.is_some() && !key.starts_with("{\"key\":99,"));
                assert_eq!(last, expected, "seed {seed}, {window}, emit={emit}");
                assert_eq!(rig.failures, Vec::<String>::new(), "seed {seed}, {window}");
            }
        }
    }
}

#[test]
fn totals_without_windows_grow_until_they_are_forgotten() {
    for emit in ["change", "interval"] {
        let mut pairs = vec![
            ("type", "Aggregate"),
            ("window", "none"),
            ("aggs", AGGS),
            ("key", "v.k"),
            ("emit", emit),
            ("state.ttl.ms", "1000"),
            ("eventtime.max.out.of.orderness.ms", "0"),
        ];
        if emit == "interval" {
            pairs.push(("emit.interval.ms", "10"));
        }
        let mut rig = Rig::new(&pairs, false, 1 << 20);
        let input = |key, time, x| Input { key, time, x: Some(x) };
        let first = [input(1, 100, 5), input(2, 100, 1), input(1, 104, 6)];
        rig.transaction(&first);
        rig.transaction(&[input(3, 110, 0)]);
        let results = |rig: &Rig, key: i64| -> Vec<Output> {
            rig.outputs.iter().filter(|output| output.key == format!("{{\"key\":{key}}}")).cloned().collect()
        };
        assert_eq!(results(&rig, 1), [expected(1, None, &[first[0], first[2]])], "{emit}");
        // Another after 900 ms: it is the same total. Then 1000 ms of nothing.
        rig.transaction(&[input(1, 1000, 7), input(3, 1010, 0)]);
        assert_eq!(results(&rig, 1).last(), Some(&expected(1, None, &[first[0], first[2], input(1, 1000, 7)])));
        rig.transaction(&[input(3, 2000, 0)]);
        rig.transaction(&[input(1, 2001, 8), input(3, 2020, 0)]);
        assert_eq!(results(&rig, 1).last(), Some(&expected(1, None, &[input(1, 2001, 8)])), "{emit}");
    }
}

#[test]
fn records_without_what_is_needed_are_refused_and_others_counted() {
    let pairs = [
        ("type", "Aggregate"),
        ("window", "tumbling"),
        ("size.ms", "10"),
        ("aggs", "s:sum(v.x)"),
        ("key", "v.k == 3 ? null : v.k"),
        ("filter", "v.k != 2"),
        ("eventtime.expr", "v.t"),
    ];
    let mut rig = Rig::new(&pairs, false, 1 << 20);
    let input = |key, time| Input { key, time, x: Some(1) };
    rig.transaction(&[input(1, 0), input(2, 1), input(3, 2), input(1, 3), input(1, 10_000)]);
    assert_eq!(rig.failures.len(), 1);
    assert!(rig.failures[0].contains("is null, and there is no state without a key"), "{:?}", rig.failures);
    assert_eq!(rig.outputs.len(), 1);
    assert_eq!(rig.outputs[0].value.as_deref(), Some(r#"{"key":1,"window_start":0,"window_end":10,"s":2}"#));
}

#[test]
fn late_records_go_where_they_should() {
    for action in ["drop", "route", "fail"] {
        let mut pairs = vec![
            ("type", "Aggregate"),
            ("window", "tumbling"),
            ("size.ms", "10"),
            ("aggs", "n:count()"),
            ("key", "v.k"),
            ("late.action", action),
            ("eventtime.max.out.of.orderness.ms", "0"),
            ("topic", "results"),
        ];
        if action == "route" {
            pairs.push(("late.topic", "too-late"));
        }
        let mut rig = Rig::new(&pairs, false, 1 << 20);
        let input = |time| Input { key: 1, time, x: Some(time) };
        rig.transaction(&[input(5), input(25), input(6), input(7), input(31), input(8)]);
        assert_eq!(rig.late, 3);
        let routed: Vec<i64> =
            rig.outputs.iter().filter(|output| output.topic == "too-late").map(|output| output.timestamp).collect();
        assert_eq!(routed, if action == "route" { vec![6, 7, 8] } else { vec![] });
        assert_eq!(rig.failures.len(), if action == "fail" { 3 } else { 0 });
        let results = rig.outputs.iter().filter(|output| output.topic == "results");
        assert_eq!(results.map(|output| output.timestamp).collect::<Vec<_>>(), [9, 29]);
    }
}

#[test]
fn when_nothing_comes_windows_close_if_the_clock_may_move_time() {
    for advance in ["false", "true"] {
        let pairs = [
            ("type", "Aggregate"),
            ("window", "tumbling"),
            ("size.ms", "1000"),
            ("aggs", "n:count()"),
            ("key", "v.k"),
            ("eventtime.idle.advance", advance),
            ("eventtime.idle.timeout.ms", "5000"),
        ];
        let mut rig = Rig::new(&pairs, false, 1 << 20);
        rig.transaction(&[Input { key: 1, time: 100, x: None }]);
        for now in [1000, 4999, 5001] {
            rig.tick(now);
            assert_eq!(rig.outputs, []);
        }
        rig.reopen();
        // The time-out begins again with the new task, which has heard nothing.
        rig.tick(6000);
        rig.tick(10_999);
        assert_eq!(rig.outputs, []);
        rig.tick(12_000);
        assert_eq!(rig.outputs.len(), usize::from(advance == "true"));
    }
}

#[test]
fn results_go_through_the_rest_of_the_chain() {
    let pairs = [
        ("transforms", "s, twice, map"),
        ("type", "Aggregate"),
        ("window", "tumbling"),
        ("size.ms", "10"),
        ("aggs", "n:count()"),
        ("key", "v.k"),
        ("emit", "change"),
        ("transforms.twice.type", "Aggregate"),
        ("transforms.twice.window", "none"),
        ("transforms.twice.state.ttl.ms", "-1"),
        ("transforms.twice.aggs", "most:max(v.n), of:count()"),
        ("transforms.twice.key", "k.key"),
        ("transforms.twice.emit", "change"),
        ("transforms.map.type", "tributary.transforms.Map"),
        ("transforms.map.value", "{'key': v.key, 'most': v.most, 'twice': v.most * 2}"),
    ];
    let mut rig = Rig::new(&pairs, true, 1 << 20);
    let input = |time| Input { key: 7, time, x: None };
    rig.transaction(&[input(0), input(1), input(2), input(11)]);
    assert_eq!(rig.outputs.len(), 1);
    assert_eq!(rig.outputs[0].value.as_deref(), Some(r#"{"key":7,"most":3,"twice":6}"#));
}

#[test]
fn behind_a_cut_only_transforms_with_the_same_time_wait_for_what_is_told() {
    for (time, results) in [("v.t", 0), ("v.t + 0", 1)] {
        let pairs = [
            ("transforms", "once, sums"),
            ("transforms.once.type", "Deduplicate"),
            ("transforms.once.key", "v.k"),
            ("transforms.once.repartition", "auto"),
            ("transforms.once.eventtime.expr", "v.t"),
            ("transforms.sums.type", "Aggregate"),
            ("transforms.sums.key", "v.k"),
            ("transforms.sums.eventtime.expr", time),
            ("transforms.sums.eventtime.max.out.of.orderness.ms", "0"),
            ("transforms.sums.window", "tumbling"),
            ("transforms.sums.size.ms", "1000"),
            ("transforms.sums.aggs", "n:count()"),
        ];
        let mut rig = Rig::new(&pairs, false, 1 << 20);
        rig.chain.expect(1, &["in-0".to_owned(), "in-1".to_owned()].into_iter().collect());
        let batch = rig.batch(&[Input { key: 1, time: 100, x: None }, Input { key: 2, time: 5000, x: None }]);
        let applied = rig.chain.apply_in(1, batch, Some("in-0")).unwrap();
        // Whoever is told waits for the other partition, of which nothing has been heard.
        assert_eq!((Rig::outputs(&applied).len(), applied.failures.len()), (results, 0), "{time}");
    }
}
