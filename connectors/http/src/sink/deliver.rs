//! A batch's requests, sent until each record has its answer.
//!
//! | What happens | What follows |
//! |---|---|
//! | 2xx | the request's records are done |
//! | a status of `retry.status`, no connection, no answer, a broken one | the request is sent again, up to `max.retries` times; then `put` fails retriably, and the batch comes again without what is done |
//! | a status of `fail.status`, a refused address or certificate | the task fails |
//! | 400, 413 or 422 to several records | they are sent again in halves, until the one to blame stands alone |
//! | any other status | the request's records fail, each with status and body |
//!
//! The answer's body is not waited for to accept records: the status says it.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hyper::StatusCode;
use tokio::sync::watch;
use tributary_sdk::{Batch, Context, Error, Result};

use super::progress::{Mark, Progress};
use super::ready::Ready;
use super::requests::{Prepared, Requests};
use super::responses::{Asked, Responses};
use crate::client::{Answer, CallError, Outgoing, retry_after, url};
use crate::config::sink::SinkConfig;

/// One call of `put` tries for no longer than so: the worker wants to hear of it.
const LONGEST_PUT: Duration = Duration::from_secs(20);

/// Requests sent, and how many of them again.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub requests: f64,
    pub retries: f64,
}

/// What the lanes share.
struct Shared<'a> {
    progress: Progress,
    /// What no lane has.
    ready: Ready,
    counts: Counts,
    /// Where answers are written.
    responses: Option<Responses<'a>>,
    /// Why the batch has to come again, or the task to end.
    ended: Option<Error>,
}

/// A batch on its way.
pub(super) struct Delivery<'a> {
    config: &'a SinkConfig,
    batch: &'a Batch,
    requests: Requests<'a>,
    shared: RefCell<Shared<'a>>,
    stop: &'a watch::Sender<bool>,
    begun: Instant,
}

/// What becomes of a request after a try.
enum Next {
    Done,
    Split,
    Again(Duration),
    /// This lane sends nothing more.
    End,
}

impl<'a> Delivery<'a> {
    pub fn new(
        context: &'a Context,
        config: &'a SinkConfig,
        batch: &'a Batch,
        progress: Progress,
        stop: &'a watch::Sender<bool>,
    ) -> Self {
        let requests = Requests::new(config, batch);
        let ready = requests.ready(config.concurrency, |row| progress.marks[row] == Mark::Open);
        let responses = config.response_topic.as_deref().map(|topic| Responses::to(context, topic));
        Self {
            config,
            batch,
            requests,
            shared: RefCell::new(Shared { progress, ready, counts: Counts::default(), responses, ended: None }),
            stop,
            begun: Instant::now(),
        }
    }

    /// Sends what is open, a lane beside the other.
    pub async fn run(&self) {
        let lanes = self.shared.borrow().ready.len().min(self.config.concurrency);
        // Looks only at those for which something has come.
        (0..lanes).map(|_| self.lane()).collect::<FuturesUnordered<_>>().collect::<()>().await;
    }

    /// What came of it.
    pub fn finish(self) -> (Progress, Counts, Result<()>) {
        let Shared { progress, counts, responses, mut ended, .. } = self.shared.into_inner();
        // Also if the batch comes again: what is done is not sent twice.
        if let Some(Err(error)) = responses.map(|mut responses| responses.produce())
            && ended.as_ref().is_none_or(Error::is_retriable)
        {
            ended = Some(error);
        }
        let open = progress.marks.iter().filter(|mark| **mark == Mark::Open).count();
        let outcome = match ended {
            Some(error) => Err(error),
            None if open > 0 => Err(Error::retriable(format!("{open} records were not sent: the task has to stop"))),
            None => Ok(()),
        };
        (progress, counts, outcome)
    }

    /// Sends one request after the other, of whatever group is free.
    async fn lane(&self) {
        loop {
            let group = self.shared.borrow_mut().ready.take();
            let Some(group) = group else { return };
            if !self.send_some(group).await {
                return;
            }
            self.shared.borrow_mut().ready.give_back(group);
        }
    }

    /// Sends the next request of a group, and those that it entails. Answers `false` when this lane sends nothing more.
    async fn send_some(&self, group: usize) -> bool {
        // Halves of a request that was refused, the first one last.
        let mut halves: Vec<Vec<Prepared>> = Vec::new();
        let mut next = None;
        loop {
            let mut records = match halves.pop() {
                Some(half) => half,
                None => self.gather(group, &mut next),
            };
            if records.is_empty() {
                return true;
            }
            let outgoing = match self.requests.request(&mut records) {
                Ok(outgoing) => outgoing,
                Err(why) => {
                    self.mark(&records, &Mark::Failed(why));
                    continue;
                }
            };
            match self.send(&outgoing, &records).await {
                Next::Done => {}
                Next::Split => {
                    let second = records.split_off(records.len().div_ceil(2));
                    halves.extend([second, records]);
                }
                Next::Again(_) | Next::End => return false,
            }
            if halves.is_empty() && next.is_none() {
                return true;
            }
        }
    }

    /// The records of the next request, and the one behind them.
    fn gather(&self, group: usize, next: &mut Option<Prepared>) -> Vec<Prepared> {
        let mut records: Vec<Prepared> = next.take().into_iter().collect();
        let mut bytes = records.iter().map(Prepared::bytes).sum();
        while records.len() < self.config.batch_records {
            let row = self.shared.borrow_mut().ready.row_of(group);
            let Some(row) = row else { break };
            match self.requests.prepare(row) {
                Ok(None) => self.shared.borrow_mut().progress.marks[row] = Mark::Done,
                Err(why) => self.shared.borrow_mut().progress.marks[row] = Mark::Failed(why),
                Ok(Some(prepared)) if self.requests.fits(&records, bytes, &prepared) => {
                    bytes += prepared.bytes();
                    records.push(prepared);
                }
                Ok(Some(prepared)) => {
                    *next = Some(prepared);
                    break;
                }
            }
        }
        records
    }

    fn mark(&self, records: &[Prepared], mark: &Mark) {
        let marks = &mut self.shared.borrow_mut().progress.marks;
        records.iter().for_each(|record| marks[record.row] = mark.clone());
    }

    fn end(&self, error: Error) -> Next {
        let ended = &mut self.shared.borrow_mut().ended;
        // What no retry mends is told before what one does.
        if ended.as_ref().is_none_or(Error::is_retriable) {
            *ended = Some(error);
        }
        Next::End
    }

    /// Sends a request as often as it takes, or as one call may.
    async fn send(&self, outgoing: &Outgoing, records: &[Prepared]) -> Next {
        let mut tries = 0;
        loop {
            if !self.may_send().await {
                return Next::End;
            }
            tries += 1;
            {
                let counts = &mut self.shared.borrow_mut().counts;
                counts.requests += 1.0;
                counts.retries += if tries > 1 { 1.0 } else { 0.0 };
            }
            let answer = self.config.client.send(outgoing, self.config.answer_bytes).await;
            match self.judge(outgoing, records, tries, answer) {
                Next::Again(pause) => {
                    let mut stopped = self.stop.subscribe();
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        _ = stopped.wait_for(|stop| *stop) => return Next::End,
                    }
                }
                next => return next,
            }
        }
    }

    /// Waits as long as the server wants. Answers `false` when nothing more is to be sent.
    async fn may_send(&self) -> bool {
        let (ended, not_before) = {
            let shared = self.shared.borrow();
            (shared.ended.as_ref().is_some_and(|error| !error.is_retriable()), shared.progress.not_before)
        };
        if ended || *self.stop.borrow() {
            return false;
        }
        let left = not_before.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            return true;
        }
        if self.begun.elapsed() + left > LONGEST_PUT {
            self.end(Error::retriable(format!("the server asks to be left alone for another {} s", left.as_secs())));
            return false;
        }
        let mut stopped = self.stop.subscribe();
        tokio::select! {
            () = tokio::time::sleep(left) => true,
            _ = stopped.wait_for(|stop| *stop) => false,
        }
    }

    fn judge(&self, outgoing: &Outgoing, records: &[Prepared], tries: u32, answer: Result<Answer, CallError>) -> Next {
        let (message, wait) = match answer {
            Ok(answer) if answer.status.is_success() => {
                self.mark(records, &Mark::Done);
                return self.keep(outgoing, records, &answer);
            }
            Ok(answer) => {
                let message = self.told(outgoing, &answer);
                if self.config.policy.failing.contains(answer.status) {
                    return self.end(Error::failed(message));
                }
                if !self.config.policy.retried.contains(answer.status) {
                    let divisible = matches!(
                        answer.status,
                        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY
                    );
                    if divisible && records.len() > 1 {
                        return Next::Split;
                    }
                    self.mark(records, &Mark::Failed(message));
                    return Next::Done;
                }
                (message, retry_after(&answer.headers).map(|wait| wait.min(self.config.policy.longest_wait)))
            }
            Err(error) if !error.passing => return self.end(error.into_error()),
            Err(error) => (error.message, None),
        };
        self.again(records, tries, message, wait)
    }

    /// Keeps the answer, where that is asked for.
    fn keep(&self, outgoing: &Outgoing, records: &[Prepared], answer: &Answer) -> Next {
        let kept = match &mut self.shared.borrow_mut().responses {
            None => Ok(()),
            Some(responses) => {
                let (first, batch) = (records[0].row, self.batch);
                let asked = Asked { batch, first, key: self.requests.key(first), records: records.len() };
                responses.add(&asked, outgoing, answer)
            }
        };
        kept.map_or_else(|error| self.end(error), |()| Next::Done)
    }

    /// After an error that may pass.
    fn again(&self, records: &[Prepared], tries: u32, message: String, wait: Option<Duration>) -> Next {
        let now = Instant::now();
        let since = {
            let since = &mut self.shared.borrow_mut().progress.since;
            records.iter().map(|record| *since[record.row].get_or_insert(now)).min().unwrap_or(now)
        };
        if let Some(timeout) = self.config.retry_timeout
            && since.elapsed() >= timeout
        {
            let why = format!("{message} (given up after {} ms)", since.elapsed().as_millis());
            self.mark(records, &Mark::Failed(why));
            return Next::Done;
        }
        let pause = wait.unwrap_or_else(|| self.config.policy.backoff.pause(tries));
        if wait.is_some() {
            // For the other lanes as well, and for the next call.
            let not_before = &mut self.shared.borrow_mut().progress.not_before;
            *not_before = (*not_before).max(Some(now + pause));
        }
        if tries > self.config.max_retries || self.begun.elapsed() + pause > LONGEST_PUT {
            let open = {
                let shared = self.shared.borrow();
                shared.progress.marks.iter().filter(|mark| **mark == Mark::Open).count()
            };
            return self.end(Error::retriable(format!("{message}; {open} records wait")));
        }
        Next::Again(pause)
    }

    /// What the server said, for messages and dead letters.
    fn told(&self, outgoing: &Outgoing, answer: &Answer) -> String {
        let excerpt = self.config.client.hidden.excerpt(&answer.body);
        let said = match (excerpt.is_empty(), &answer.broken) {
            (false, _) => format!(": {excerpt}"),
            (true, Some(broken)) => format!(", and {broken}"),
            (true, None) => String::new(),
        };
        let Outgoing { method, uri, .. } = outgoing;
        format!("{method} {} was answered with {}{said}", url::shown(uri), answer.status)
    }
}
