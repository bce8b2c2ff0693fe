use super::*;

const REBALANCING: i16 = 27;
const UNKNOWN_MEMBER: i16 = 25;
const FENCED: i16 = 82;
const NOT_COORDINATOR: i16 = 16;
const NOT_LEADER: i16 = 6;
const OUT_OF_RANGE: i16 = 1;

/// A book with a clock, and brokers that answer as told.
struct World {
    book: Book,
    now: Instant,
}

impl World {
    fn new() -> Self {
        Self { book: Book::default(), now: Instant::now() }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn enter(&mut self, group: &str, watch: &[(&str, i32, i64)]) -> (u64, Arc<Slot>) {
        let slot = Arc::<Slot>::default();
        let mut topics: Vec<_> = watch.iter().map(|(topic, ..)| (*topic).to_owned()).collect();
        topics.dedup();
        let guest = Guest {
            membership: Membership {
                group: group.to_owned(),
                member: format!("{group}-member"),
                generation: 1,
                instance: format!("{group}-0"),
            },
            heartbeat: Duration::from_secs(3),
            session: Duration::from_secs(45),
            survey: Duration::from_secs(60),
            baseline: Arc::new(Baseline::new(topics)),
            watch: watch.iter().map(|(topic, partition, offset)| (at(topic, *partition), *offset)).collect(),
            slot: slot.clone(),
        };
        (self.book.enter(guest, self.now), slot)
    }

    /// Does what is due: coordinators are `c:1`, topics have `partitions`, led by `b:1`, heartbeats are answered with `code`.
    fn serve(&mut self, partitions: i32, code: i16) -> Vec<String> {
        let mut fetches = Vec::new();
        loop {
            let work = self.book.work(self.now);
            let idle = work.find.is_empty() && work.survey.is_empty() && work.heartbeats.is_empty();
            fetches.extend(work.fetch);
            let found = work.find.iter().map(|group| (group.clone(), "c:1".to_owned())).collect();
            if !work.find.is_empty() {
                self.book.found(&work.find, found, self.now);
            }
            if !work.survey.is_empty() {
                let topic = |topic: &String| Surveyed {
                    topic: topic.clone(),
                    leaders: Some((0..partitions).map(|number| (number, Some("b:1".to_owned()))).collect()),
                };
                self.book.surveyed(Some(work.survey.iter().map(topic).collect()), self.now);
            }
            for (server, heartbeats) in work.heartbeats {
                let answers: Vec<_> = heartbeats.iter().map(|(id, _)| (*id, Some(code))).collect();
                self.book.heard(&server, &answers, self.now);
            }
            if idle {
                return fetches;
            }
        }
    }

    fn admit(&mut self, group: &str, watch: &[(&str, i32, i64)]) -> (u64, Arc<Slot>) {
        let (id, slot) = self.enter(group, watch);
        self.serve(2, 0);
        self.book.fetch("b:1");
        assert!(slot.admitted(id));
        (id, slot)
    }

    fn fetched(&mut self, topic: &str, partition: i32, code: i16, end: i64) {
        self.book.fetched("b:1", vec![Fetched { partition: at(topic, partition), code, end }], self.now);
    }
}

fn at(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition { topic: topic.into(), partition }
}

#[test]
fn a_consumer_is_admitted_when_it_is_known_and_watched() {
    let mut world = World::new();
    let (id, slot) = world.enter("g", &[("t", 0, 5), ("t", 1, 7)]);
    assert_eq!(world.serve(2, 0), ["b:1"]);
    assert!(!slot.admitted(id), "nothing was asked of the broker yet");
    assert_eq!(world.book.fetch("b:1"), [(at("t", 0), 5), (at("t", 1), 7)]);
    assert!(slot.admitted(id));
    world.fetched("t", 0, 0, 5);
    assert_eq!(slot.take_signal(id), None);
    world.fetched("t", 0, 0, 6);
    assert_eq!(slot.take_signal(id), Some(Signal::Wanted));
    // It reads by itself now.
    assert!(world.book.fetch("b:1").is_empty() && !world.book.fetches_from("b:1"));
}

#[test]
fn one_that_the_group_does_not_know_is_not_admitted() {
    for (code, signal) in [(UNKNOWN_MEMBER, "lost"), (REBALANCING, "rebalance"), (FENCED, "fenced")] {
        let mut world = World::new();
        let (id, slot) = world.enter("g", &[("t", 0, 5)]);
        world.serve(2, code);
        world.book.fetch("b:1");
        assert!(!slot.admitted(id));
        match (signal, slot.take_signal(id)) {
            ("lost", Some(Signal::Lost(_)))
            | ("rebalance", Some(Signal::Rebalance))
            | ("fenced", Some(Signal::Fenced)) => {}
            (wanted, got) => panic!("{wanted}: {got:?}"),
        }
    }
}

#[test]
fn a_member_without_partitions_is_only_kept() {
    let mut world = World::new();
    let (id, slot) = world.enter("g", &[]);
    assert!(world.serve(1, 0).is_empty());
    assert!(slot.admitted(id));
}

#[test]
fn heartbeats_go_together_at_the_groups_interval() {
    let mut world = World::new();
    for number in 0..10 {
        world.admit(&format!("g{number}"), &[("t", 0, 5)]);
        world.pass(Duration::from_millis(20));
    }
    let mut rounds = 0;
    let mut heartbeats = 0;
    let end = world.now + Duration::from_secs(30);
    while world.now < end {
        let work = world.book.work(world.now);
        if work.heartbeats.is_empty() {
            world.now = work.next.unwrap_or(end).max(world.now + Duration::from_millis(1));
        }
        for (server, list) in work.heartbeats {
            rounds += 1;
            heartbeats += list.len();
            world.book.heard(&server, &list.iter().map(|(id, _)| (*id, Some(0))).collect::<Vec<_>>(), world.now);
        }
    }
    assert!((90..=130).contains(&heartbeats), "{heartbeats}");
    assert!(rounds <= 22, "{rounds}");
}

#[test]
fn a_membership_older_than_its_session_is_asked_for_before_reading() {
    let mut world = World::new();
    let (id, slot) = world.admit("g", &[("t", 0, 5)]);
    world.pass(Duration::from_secs(100));
    world.fetched("t", 0, 0, 9);
    assert_eq!(slot.take_signal(id), None);
    world.serve(2, FENCED);
    assert_eq!(slot.take_signal(id), Some(Signal::Fenced));

    let (id, slot) = world.admit("h", &[("t", 0, 5)]);
    world.pass(Duration::from_secs(100));
    world.fetched("t", 0, 0, 9);
    world.serve(2, 0);
    assert_eq!(slot.take_signal(id), Some(Signal::Wanted));
}

#[test]
fn an_answer_that_was_looked_at_late_says_nothing_of_now() {
    let mut world = World::new();
    let (id, slot) = world.admit("g", &[("t", 0, 5)]);
    world.pass(Duration::from_secs(3));
    let work = world.book.work(world.now);
    // Frozen, with the answers to a heartbeat and a fetch in the sockets' buffers.
    world.pass(Duration::from_secs(100));
    world.book.heard(&work.heartbeats[0].0, &[(id, Some(0))], world.now);
    world.fetched("t", 0, 0, 9);
    assert_eq!(slot.take_signal(id), None);
    world.serve(2, UNKNOWN_MEMBER);
    assert!(matches!(slot.take_signal(id), Some(Signal::Lost(_))));
}

#[test]
fn reading_ends_with_the_session_and_parking_does_not() {
    let mut world = World::new();
    let (parked, slot) = world.admit("g", &[("t", 0, 5)]);
    let (reading, reads) = world.admit("h", &[("t", 0, 5)]);
    world.book.watch(reading, None);
    let mut later = |time| {
        world.pass(time);
        for (server, list) in world.book.work(world.now).heartbeats {
            let answers: Vec<_> = list.iter().map(|(id, _)| (*id, None)).collect();
            world.book.heard(&server, &answers, world.now);
        }
    };
    later(Duration::from_secs(44));
    assert_eq!(reads.take_signal(reading), None);
    later(Duration::from_secs(2));
    assert!(matches!(reads.take_signal(reading), Some(Signal::Lost(_))));
    assert_eq!(slot.take_signal(parked), None);
}

#[test]
fn a_rebalance_is_told_once_and_the_member_is_kept_meanwhile() {
    let mut world = World::new();
    let (id, slot) = world.admit("g", &[("t", 0, 5)]);
    world.pass(Duration::from_secs(3));
    world.serve(2, REBALANCING);
    assert_eq!(slot.take_signal(id), Some(Signal::Rebalance));
    world.pass(Duration::from_secs(3));
    assert_eq!(world.book.work(world.now).heartbeats.len(), 1);
    assert_eq!(slot.take_signal(id), None);
}

#[test]
fn a_coordinator_that_moves_is_found_again() {
    let mut world = World::new();
    let (id, slot) = world.admit("g", &[("t", 0, 5)]);
    world.pass(Duration::from_secs(3));
    let work = world.book.work(world.now);
    world.book.heard(&work.heartbeats[0].0, &[(id, Some(NOT_COORDINATOR))], world.now);
    assert!(world.book.work(world.now).find.is_empty(), "after a pause only");
    world.pass(PAUSE);
    assert_eq!(world.book.work(world.now).find, ["g"]);
    world.book.found(&["g".to_owned()], vec![("g".to_owned(), "c:2".to_owned())], world.now);
    assert_eq!(world.book.work(world.now).heartbeats[0].0, "c:2");
    assert_eq!(slot.take_signal(id), None);
}

#[test]
fn partitions_whose_leader_moves_are_looked_for() {
    let mut world = World::new();
    let (id, slot) = world.admit("g", &[("t", 0, 5)]);
    world.fetched("t", 0, NOT_LEADER, -1);
    assert!(!world.book.fetches_from("b:1"));
    world.pass(PAUSE);
    assert_eq!(world.serve(2, 0), ["b:1"]);
    assert_eq!(slot.take_signal(id), None);
    world.book.fetch("b:1");
    world.fetched("t", 0, OUT_OF_RANGE, -1);
    assert_eq!(slot.take_signal(id), Some(Signal::Wanted));
}

#[test]
fn topics_that_change_are_told_when_they_are_seen_twice() {
    let mut world = World::new();
    let (id, slot) = world.admit("g", &[("t", 0, 5)]);
    world.pass(Duration::from_secs(60));
    world.serve(3, 0);
    assert_eq!(slot.take_signal(id), None);
    world.pass(PAUSE);
    // It was a mistake.
    world.serve(2, 0);
    world.pass(Duration::from_secs(60));
    world.serve(3, 0);
    assert_eq!(slot.take_signal(id), None);
    world.pass(PAUSE);
    world.serve(3, 0);
    assert_eq!(slot.take_signal(id), Some(Signal::TopicsChanged));
}

#[test]
fn what_was_there_when_partitions_were_given_out_counts() {
    let mut world = World::new();
    let baseline = Arc::new(Baseline::new(vec!["t".to_owned()]));
    world.book.note(baseline.clone(), world.now);
    world.serve(2, 0);
    assert_eq!(baseline.counts(), Some([("t".to_owned(), Some(2))].into()));
    // Partitions are added before the consumer parks.
    let (id, slot) = world.enter("g", &[("t", 0, 5)]);
    world.book.entries.get_mut(&id).unwrap().guest.baseline = baseline;
    world.serve(3, 0);
    world.pass(Duration::from_secs(60));
    world.serve(3, 0);
    world.pass(PAUSE);
    world.serve(3, 0);
    assert_eq!(slot.take_signal(id), Some(Signal::TopicsChanged));
}

#[test]
fn surveys_go_on_after_one_that_had_nothing_to_ask() {
    let mut world = World::new();
    // Whoever wanted to know is gone when it is due.
    world.book.note(Arc::new(Baseline::default()), world.now);
    assert!(world.book.work(world.now).survey.is_empty());
    let baseline = Arc::new(Baseline::new(vec!["t".to_owned()]));
    world.book.note(baseline.clone(), world.now);
    world.pass(PAUSE);
    world.serve(2, 0);
    assert!(baseline.counts().is_some());
}

#[test]
fn a_broker_that_cannot_be_read_concerns_only_what_it_leads() {
    let mut world = World::new();
    let (one, slot) = world.admit("g", &[("t", 0, 5)]);
    let (other, elsewhere) = world.admit("h", &[("t", 1, 5)]);
    world.book.leaders.insert(at("t", 1), "b:2".to_owned());
    world.book.unreadable("b:1", world.now);
    assert_eq!((slot.take_signal(one), elsewhere.take_signal(other)), (Some(Signal::Wanted), None));
    world.book.watch(one, Some(vec![(at("t", 0), 5)]));
    assert_eq!(world.serve(2, 0), ["b:2"]);
    world.pass(LONG_PAUSE);
    assert!(world.book.work(world.now).fetch.contains(&"b:1".to_owned()));
}

#[test]
fn a_coordinator_that_refuses_ends_only_what_was_asked_of_it() {
    let mut world = World::new();
    let (one, slot) = world.admit("g", &[("t", 0, 5)]);
    let (other, elsewhere) = world.admit("h", &[("t", 1, 5)]);
    world.book.refused_members(&[one], "certificate");
    assert_eq!(slot.take_signal(one), Some(Signal::Refused("certificate".to_owned())));
    world.book.refused_groups(&["g".to_owned()], "certificate");
    assert_eq!((slot.take_signal(one), elsewhere.take_signal(other)), (None, None));
    world.book.refused_survey("certificate", world.now);
    assert!(slot.take_signal(one).is_none() && elsewhere.take_signal(other).is_some());
}

#[test]
fn topics_that_change_say_nothing_to_a_member_that_was_fenced() {
    let mut world = World::new();
    let (id, slot) = world.admit("g", &[("t", 0, 5)]);
    let (_, other) = world.admit("h", &[("t", 0, 5)]);
    // The next survey tells the second one's baseline.
    world.pass(Duration::from_secs(60));
    world.serve(2, 0);
    world.book.heard("c:1", &[(id, Some(FENCED))], world.now);
    assert_eq!(slot.take_signal(id), Some(Signal::Fenced));
    world.pass(Duration::from_secs(60));
    world.serve(3, 0);
    world.pass(PAUSE);
    world.serve(3, 0);
    assert!(other.has_signal() && !slot.has_signal());
}
