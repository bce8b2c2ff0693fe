//! The commit loop: which step comes next. No I/O, no clock.
//!
//! The driver asks for [`CommitLoop::next`], carries the step out, tells what came of it with [`CommitLoop::outcome`], and so
//! on until there is nothing to do but [`Step::Wait`]. In between it adds pieces and says where the transaction ends.
//!
//! Two rules keep it exact. A transaction is sent again only after it is known not to be there: aborted by this very producer
//! before it was told to commit, or not found when the positions were read after the successor's `init`. And after every
//! `init` but the first, positions are read before anything is written, so that a producer that was fenced in between finds
//! that somebody else has gone on, and ends.

use super::boundary::Ending;

/// How often positions may not be told before it is presumed that something is left open among them.
const UNTOLD: u32 = 2;
/// How many producers in a row may come to nothing before the task fails.
const FRUITLESS: u32 = 10;

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Fence earlier producers of the id, and wait until what they had open is finished.
    Init,
    /// Drop the producer and make another one with the same id.
    Renew,
    /// Read the committed positions, and compare them with those before and after the open transaction.
    Look,
    /// Make the positions part of a transaction of this new producer, and abort it. The marker of its end also ends what the
    /// cluster has left open among them of earlier producers of the id: positions are not told as long as there is such a thing.
    Unblock,
    /// Open a transaction.
    Begin,
    /// Hand over the pieces that this transaction has not been given yet.
    Send,
    /// Make the positions part of the transaction.
    AddPositions,
    /// Wait until everything is acknowledged.
    Flush,
    /// Commit. Only after this is asked for can the transaction be there without this producer's knowledge.
    Commit,
    /// Drop what the transaction sent.
    Abort,
    /// It is committed: let go of the pieces, and tell the connector.
    Settle,
    /// Nothing: wait for pieces, or for the transaction's end.
    Wait,
    /// Stop.
    End(End),
}

/// Why the loop ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Another producer has the id.
    Fenced,
    /// Somebody else has moved the positions.
    TakenOver,
    /// What went wrong last cannot be mended here.
    Failed,
}

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// A commit is done, but took so long that a request of it may still be under way: this producer must write no more.
    DoneLate,
    /// Not done. For a commit: it is not known whether it is. Otherwise the same step may be tried again.
    Again,
    /// The transaction has to be aborted.
    Abort,
    /// Another producer has the id.
    Fenced,
    /// This producer is of no further use.
    Close,
    /// Nothing helps.
    Hopeless,
    /// Of [`Step::Look`]: the positions are those from before the transaction.
    Before,
    /// Of [`Step::Look`]: those after it.
    After,
    /// Of [`Step::Look`]: others.
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A producer that was not initialised.
    New,
    /// The producer has to go.
    Stale,
    /// Initialised again, and the positions are not read yet.
    Unknown,
    /// Initialised again, and something may be left open among the positions.
    Blocked,
    /// Nothing is open.
    Idle,
    Open,
    Aborting,
    Settling,
    Ended(End),
}

/// The state. See the module.
#[derive(Debug, Clone)]
pub struct CommitLoop {
    phase: Phase,
    /// Pieces of the transaction, and how many of them the open transaction was given.
    held: usize,
    sent: usize,
    /// Whether the open transaction was given records.
    dirty: bool,
    /// Whether it was given the positions.
    positions: bool,
    /// Whether all of it is acknowledged.
    flushed: bool,
    ending: Option<Ending>,
    /// A commit was asked for, and its outcome is not known.
    uncertain: bool,
    /// Whether the id was initialised before.
    known: bool,
    /// After settling, the producer has to go.
    late: bool,
    /// How often the positions were not told.
    untold: u32,
    fruitless: u32,
}

impl Default for CommitLoop {
    fn default() -> Self {
        Self {
            phase: Phase::New,
            held: 0,
            sent: 0,
            dirty: false,
            positions: false,
            flushed: false,
            ending: None,
            uncertain: false,
            known: false,
            late: false,
            untold: 0,
            fruitless: 0,
        }
    }
}

impl CommitLoop {
    /// The transaction has another piece: records to send, or positions alone.
    pub fn add(&mut self) {
        debug_assert!(self.ending.is_none(), "the transaction has ended");
        self.held += 1;
    }

    /// The transaction is complete. Without pieces there is none.
    pub fn end(&mut self, ending: Ending) {
        if self.held > 0 {
            self.ending = Some(ending);
        }
    }

    /// What the transaction is made of has changed (a record was refused): it has so many pieces now, and begins anew.
    pub fn replace(&mut self, held: usize) {
        self.held = held;
        if self.phase == Phase::Open {
            self.phase = Phase::Aborting;
        }
        if held == 0 {
            self.ending = None;
        }
    }

    /// Pieces of the transaction.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Whether the transaction is complete, and only has to be committed.
    pub fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// Pieces that the open transaction was given.
    pub fn sent(&self) -> usize {
        self.sent
    }

    /// Whether a commit was asked for whose outcome is not known.
    pub fn is_uncertain(&self) -> bool {
        self.uncertain
    }

    /// Whether a transaction is open in the log.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Aborting)
    }

    /// The next step.
    pub fn next(&self) -> Step {
        let discards = self.ending == Some(Ending::Discard);
        match self.phase {
            Phase::New => Step::Init,
            Phase::Stale => Step::Renew,
            Phase::Unknown => Step::Look,
            Phase::Blocked => Step::Unblock,
            Phase::Idle if self.held > self.sent || self.ending.is_some() => Step::Begin,
            Phase::Idle => Step::Wait,
            // What was sent goes; only the positions stay.
            Phase::Open if discards && self.dirty => Step::Abort,
            Phase::Open if !discards && self.sent < self.held => Step::Send,
            Phase::Open => match self.ending {
                None => Step::Wait,
                Some(_) if !self.positions => Step::AddPositions,
                Some(_) if !self.flushed => Step::Flush,
                Some(_) => Step::Commit,
            },
            Phase::Aborting => Step::Abort,
            Phase::Settling => Step::Settle,
            Phase::Ended(end) => Step::End(end),
        }
    }

    /// What came of the step that [`Self::next`] named.
    pub fn outcome(&mut self, outcome: Outcome) {
        let step = self.next();
        match (step, outcome) {
            (Step::Wait | Step::End(_), _) => {}
            (_, Outcome::Hopeless) => self.phase = Phase::Ended(End::Failed),
            // Who initialises at the same time may be fenced for a moment.
            (Step::Init, Outcome::Fenced) => self.renew(),
            (_, Outcome::Fenced) => self.phase = Phase::Ended(End::Fenced),
            (Step::Init, Outcome::Done) => {
                self.phase = match self.known {
                    _ if self.untold >= UNTOLD => Phase::Blocked,
                    true => Phase::Unknown,
                    false => Phase::Idle,
                };
                self.known = true;
                self.begin_anew();
            }
            (Step::Renew, Outcome::Done) => self.phase = Phase::New,
            (Step::Look, Outcome::Again) => {
                self.untold += 1;
                if self.untold >= UNTOLD {
                    // Only a new producer: a request to commit of the one before could arrive late, and commit the transaction that
                    // is to be aborted.
                    self.phase = Phase::Stale;
                }
            }
            (Step::Unblock, outcome) => {
                self.untold = 0;
                match outcome {
                    Outcome::Done => self.phase = Phase::Unknown,
                    // The cluster is away, or a part of it: that is no reason to give up.
                    Outcome::Again | Outcome::Abort => self.phase = Phase::Stale,
                    _ => self.renew(),
                }
            }
            (Step::Look, Outcome::Before) => {
                (self.uncertain, self.untold) = (false, 0);
                self.phase = Phase::Idle;
            }
            // Only this transaction can have moved them there, if it was asked to.
            (Step::Look, Outcome::After) if self.uncertain => self.phase = Phase::Settling,
            (Step::Look, Outcome::After | Outcome::Other) => self.phase = Phase::Ended(End::TakenOver),
            (Step::Begin, Outcome::Done) => self.phase = Phase::Open,
            (Step::Send, Outcome::Done) => {
                self.sent = self.held;
                self.dirty = true;
            }
            // Some of it may have been handed over.
            (Step::Send, Outcome::Again) => self.dirty = true,
            (Step::AddPositions, Outcome::Done) => self.positions = true,
            (Step::Flush, Outcome::Done) => self.flushed = true,
            (Step::Commit, Outcome::Done) => self.phase = Phase::Settling,
            (Step::Commit, Outcome::DoneLate) => {
                self.late = true;
                self.phase = Phase::Settling;
            }
            (Step::Commit, Outcome::Again | Outcome::Close) => {
                self.uncertain = true;
                self.renew();
            }
            (Step::Commit, Outcome::Abort) => {
                // It may have been aborted because of an answer that never came.
                self.uncertain = true;
                self.phase = Phase::Aborting;
            }
            (Step::Abort, Outcome::Done) => {
                self.begin_anew();
                self.phase = if self.uncertain { Phase::Unknown } else { Phase::Idle };
            }
            (Step::Settle, _) => {
                let late = self.late;
                *self = Self { phase: Phase::Idle, known: true, ..Self::default() };
                if late {
                    self.phase = Phase::Stale;
                }
            }
            (_, Outcome::Again) => {}
            (Step::Begin | Step::Send | Step::AddPositions | Step::Flush, Outcome::Abort) => {
                self.phase = Phase::Aborting
            }
            // What cannot be initialised, aborted or used any more is replaced.
            (Step::Renew, _) => self.phase = Phase::Ended(End::Failed),
            (_, _) => self.renew(),
        }
    }

    fn renew(&mut self) {
        self.fruitless += 1;
        self.phase = if self.fruitless > FRUITLESS { Phase::Ended(End::Failed) } else { Phase::Stale };
    }

    /// Nothing is open any more.
    fn begin_anew(&mut self) {
        (self.sent, self.dirty, self.positions, self.flushed) = (0, false, false, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drive(machine: &mut CommitLoop, steps: &[(Step, Outcome)]) {
        for (step, outcome) in steps {
            assert_eq!(machine.next(), *step);
            machine.outcome(*outcome);
        }
    }

    fn started() -> CommitLoop {
        let mut machine = CommitLoop::default();
        drive(&mut machine, &[(Step::Init, Outcome::Again), (Step::Init, Outcome::Done)]);
        assert_eq!(machine.next(), Step::Wait);
        machine
    }

    #[test]
    fn a_transaction_that_nothing_happens_to() {
        let mut machine = started();
        machine.end(Ending::Commit);
        assert_eq!(machine.next(), Step::Wait, "without pieces there is none");
        machine.add();
        drive(&mut machine, &[(Step::Begin, Outcome::Done), (Step::Send, Outcome::Done)]);
        assert_eq!(machine.next(), Step::Wait);
        machine.add();
        drive(&mut machine, &[(Step::Send, Outcome::Done)]);
        machine.end(Ending::Commit);
        let rest = [Step::AddPositions, Step::Flush, Step::Commit, Step::Settle].map(|step| (step, Outcome::Done));
        drive(&mut machine, &rest);
        assert_eq!((machine.next(), machine.held()), (Step::Wait, 0));
    }

    #[test]
    fn what_is_discarded_is_aborted_and_its_positions_are_committed_alone() {
        let mut machine = started();
        machine.add();
        drive(&mut machine, &[(Step::Begin, Outcome::Done), (Step::Send, Outcome::Done)]);
        machine.end(Ending::Discard);
        let steps = [Step::Abort, Step::Begin, Step::AddPositions, Step::Flush, Step::Commit, Step::Settle];
        drive(&mut machine, &steps.map(|step| (step, Outcome::Done)));
        assert_eq!(machine.next(), Step::Wait);
    }

    #[test]
    fn an_aborted_transaction_is_sent_again() {
        let mut machine = started();
        machine.add();
        let aborted = [(Step::Begin, Outcome::Done), (Step::Send, Outcome::Abort), (Step::Abort, Outcome::Done)];
        drive(&mut machine, &aborted);
        drive(&mut machine, &[(Step::Begin, Outcome::Done), (Step::Send, Outcome::Done)]);
        machine.end(Ending::Commit);
        drive(&mut machine, &[(Step::AddPositions, Outcome::Done), (Step::Flush, Outcome::Done)]);
        drive(&mut machine, &[(Step::Commit, Outcome::Abort)]);
        // A commit that ended so is looked at before it is repeated.
        drive(
            &mut machine,
            &[(Step::Abort, Outcome::Done), (Step::Look, Outcome::Before), (Step::Begin, Outcome::Done)],
        );
        assert_eq!(machine.next(), Step::Send);
    }

    #[test]
    fn a_commit_that_was_not_asked_for_leaves_no_doubt() {
        for (outcome, then) in
            [(Outcome::Abort, Step::Abort), (Outcome::Close, Step::Renew), (Outcome::Again, Step::Flush)]
        {
            let mut machine = started();
            machine.add();
            machine.end(Ending::Commit);
            let to_commit = [Step::Begin, Step::Send, Step::AddPositions].map(|step| (step, Outcome::Done));
            drive(&mut machine, &to_commit);
            drive(&mut machine, &[(Step::Flush, outcome)]);
            assert_eq!((machine.next(), machine.is_uncertain()), (then, false));
        }
    }

    #[test]
    fn an_unknown_commit_is_looked_up_by_a_new_producer() {
        for (found, then) in [
            (Outcome::After, Step::Settle),
            (Outcome::Before, Step::Begin),
            (Outcome::Other, Step::End(End::TakenOver)),
        ] {
            let mut machine = started();
            machine.add();
            machine.end(Ending::Commit);
            let to_commit =
                [Step::Begin, Step::Send, Step::AddPositions, Step::Flush].map(|step| (step, Outcome::Done));
            drive(&mut machine, &to_commit);
            drive(&mut machine, &[(Step::Commit, Outcome::Again), (Step::Renew, Outcome::Done)]);
            drive(&mut machine, &[(Step::Init, Outcome::Done), (Step::Look, found)]);
            assert_eq!(machine.next(), then);
        }
    }

    #[test]
    fn what_is_left_open_among_the_positions_is_ended_by_a_new_producer() {
        let mut machine = started();
        machine.add();
        machine.end(Ending::Commit);
        let to_commit = [Step::Begin, Step::Send, Step::AddPositions, Step::Flush].map(|step| (step, Outcome::Done));
        drive(&mut machine, &to_commit);
        drive(&mut machine, &[(Step::Commit, Outcome::Again), (Step::Renew, Outcome::Done)]);
        let again = [(Step::Init, Outcome::Done), (Step::Look, Outcome::Again), (Step::Look, Outcome::Again)];
        drive(&mut machine, &again);
        drive(
            &mut machine,
            &[(Step::Renew, Outcome::Done), (Step::Init, Outcome::Done), (Step::Unblock, Outcome::Done)],
        );
        assert!(machine.is_uncertain());
        drive(&mut machine, &[(Step::Look, Outcome::After), (Step::Settle, Outcome::Done)]);
        assert_eq!(machine.next(), Step::Wait);
    }

    #[test]
    fn a_producer_whose_request_may_be_under_way_writes_no_more() {
        let mut machine = started();
        machine.add();
        machine.end(Ending::Commit);
        let to_commit = [Step::Begin, Step::Send, Step::AddPositions, Step::Flush].map(|step| (step, Outcome::Done));
        drive(&mut machine, &to_commit);
        drive(&mut machine, &[(Step::Commit, Outcome::DoneLate), (Step::Settle, Outcome::Done)]);
        drive(
            &mut machine,
            &[(Step::Renew, Outcome::Done), (Step::Init, Outcome::Done), (Step::Look, Outcome::Before)],
        );
        assert_eq!(machine.next(), Step::Wait);
    }
}
