//! The HTTP source: polls a REST API, page by page.
//!
//! Promises: every record of a page comes once while nobody interferes, and again after a kill if its page was not delivered whole.
//! The offset says which page, cursor or timestamp to ask with, and stands on the last record of a page: records are delivered before
//! the source goes on behind them. A page that is read again (the last one, which may still grow) brings what is new in it.
//!
//! Fails: what may pass (no connection, `retry.status`, half a body, an answer that is no JSON, up to five times) is asked for again,
//! with back-off or after `Retry-After`; everything else fails the task with what the server said.

mod pages;
mod state;

use std::time::Duration;

use hyper::header::{ACCEPT, CONTENT_TYPE, ETAG, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use hyper::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tributary_sdk::{
    Config, ConfigDef, Context, Error, ExactlyOnceSupport, Output, Record, Records, Result, SourceConnector,
    SourcePosition, SourceTask,
};

use crate::client::{Answer, Outgoing, retry_after, url};
use crate::config::failed;
use crate::config::source::{Pagination, SourceConfig};
use pages::{Page, digest, next_link, word_of};
use state::{MOST_SEEN, State};

/// Records of one batch.
const BATCH: usize = 10_000;
const BATCH_BYTES: usize = 16 << 20;
/// Answers in a row that cannot be read, after which no retry is thought to help.
const MALFORMED: u32 = 5;
/// How long one poll waits for the time of the next request.
const WAIT: Duration = Duration::from_secs(1);

/// Polls one URL with one task.
#[derive(Debug, Default)]
pub struct HttpSource {
    config: Config,
}

impl SourceConnector for HttpSource {
    type Task = HttpSourceTask;

    fn config_def() -> ConfigDef {
        SourceConfig::definition()
    }

    fn validate(&mut self, config: &Config) -> Vec<(String, String)> {
        // What the definition finds by itself is told already.
        if Self::config_def().parse(config).is_err() {
            return Vec::new();
        }
        SourceConfig::parse(config).err().into_iter().collect()
    }

    fn start(&mut self, context: &Context, config: &Config) -> Result<()> {
        let parsed = SourceConfig::parse(config).map_err(failed)?;
        if parsed.client.shows_credentials(parsed.url.scheme_str() == Some("https")) {
            context.warn("credentials are sent without TLS: everybody on the way can read them; use an https URL");
        }
        self.config = config.clone();
        Ok(())
    }

    fn task_configs(&mut self, _max_tasks: usize) -> Result<Vec<Config>> {
        Ok(vec![self.config.clone()])
    }

    fn alter_offsets(&mut self, _: &Config, offsets: &[SourcePosition]) -> Result<bool> {
        for SourcePosition { partition, offset } in offsets {
            if !partition.get("url").is_some_and(Value::is_string) {
                return Err(Error::failed(format!("the source partition {partition} has no url")));
            }
            if let Some(offset) = offset {
                serde_json::from_value::<State>(offset.clone()).map_err(|error| {
                    Error::failed(format!("the offset {offset} is not one of this source: {error}"))
                })?;
            }
        }
        Ok(true)
    }

    fn exactly_once_support(&mut self, _: &Config) -> Option<ExactlyOnceSupport> {
        // A server may answer otherwise when it is asked again.
        Some(ExactlyOnceSupport::Unsupported)
    }
}

/// Polls one URL.
#[derive(Default)]
pub struct HttpSourceTask(Option<Poller>);

impl std::fmt::Debug for HttpSourceTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpSourceTask").field("started", &self.0.is_some()).finish()
    }
}

struct Poller {
    context: Context,
    config: SourceConfig,
    runtime: Runtime,
    stop: watch::Sender<bool>,
    partition: Value,
    state: State,
    /// When the next request may go out, by the worker's clock.
    next_ms: i64,
    /// Tries in a row that failed.
    tries: u32,
    malformed: u32,
}

impl SourceTask for HttpSourceTask {
    fn start(&mut self, context: &Context, config: &Config) -> Result<()> {
        let config = SourceConfig::parse(config).map_err(failed)?;
        let partition = json!({"url": url::without_query(&config.url)});
        let state: State = context.offset_as(&partition)?.unwrap_or_default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::retriable(format!("cannot start a runtime: {error}")))?;
        let (stop, _) = watch::channel(false);
        let context = context.clone();
        self.0 = Some(Poller { context, config, runtime, stop, partition, state, next_ms: 0, tries: 0, malformed: 0 });
        Ok(())
    }

    fn poll(&mut self, output: &mut Output<'_>) -> Result<()> {
        self.0.as_mut().ok_or_else(|| Error::failed("the task is not started"))?.poll(output)
    }

    fn stop(&mut self) -> Result<()> {
        if let Some(poller) = self.0.take() {
            // A look-up of a name may hang in the system's resolver.
            poller.runtime.shutdown_background();
        }
        Ok(())
    }

    fn canceller(&self) -> Option<Box<dyn Fn() + Send + Sync>> {
        let stop = self.0.as_ref()?.stop.clone();
        Some(Box::new(move || _ = stop.send_replace(true)))
    }
}

impl Poller {
    fn poll(&mut self, output: &mut Output<'_>) -> Result<()> {
        let left = self.next_ms - self.context.now_ms();
        if left > 0 {
            self.context.wait(WAIT.min(Duration::from_millis(left as u64)));
            return Ok(());
        }
        let outgoing = self.request(&self.state)?;
        let Some(answer) = self.ask(&outgoing) else { return Ok(()) };
        self.context.count("http-requests", 1.0);
        // The next one, should this one say nothing else.
        self.wait(self.config.between);
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if error.passing => return self.again(error.message, None),
            Err(error) => return Err(error.into_error()),
        };
        if answer.status == StatusCode::NOT_MODIFIED {
            self.tries = 0;
            self.end_round();
            return Ok(());
        }
        self.check(&outgoing, &answer)?;
        self.take(&outgoing, &answer, output)
    }

    /// Sends a request; nothing when the task has to stop meanwhile.
    fn ask(&self, outgoing: &Outgoing) -> Option<std::result::Result<Answer, crate::client::CallError>> {
        let mut stopped = self.stop.subscribe();
        self.runtime.block_on(async {
            tokio::task::yield_now().await;
            tokio::select! {
                answer = self.config.client.send(outgoing, self.config.max_response) => Some(answer),
                _ = stopped.wait_for(|stop| *stop) => None,
            }
        })
    }

    fn wait(&mut self, time: Duration) {
        self.next_ms = self.context.now_ms() + time.as_millis() as i64;
    }

    /// An error that may pass.
    fn again(&mut self, message: String, wait: Option<Duration>) -> Result<()> {
        self.tries += 1;
        let wait = wait.map(|wait| wait.min(self.config.policy.longest_wait));
        self.wait(wait.unwrap_or_else(|| self.config.policy.backoff.pause(self.tries)));
        self.context.count("http-retries", 1.0);
        Err(Error::retriable(message))
    }

    /// Whether an answer is one that can be read.
    fn check(&mut self, outgoing: &Outgoing, answer: &Answer) -> Result<()> {
        let shown = url::shown(&outgoing.uri);
        if !answer.status.is_success() {
            let said = self.config.client.hidden.excerpt(&answer.body);
            let colon = if said.is_empty() { "" } else { ": " };
            let message = format!("GET {shown} was answered with {}{colon}{said}", answer.status);
            if self.config.policy.retried.contains(answer.status) && !self.config.policy.failing.contains(answer.status)
            {
                return self.again(message, retry_after(&answer.headers));
            }
            return Err(Error::failed(message));
        }
        if let Some(broken) = &answer.broken {
            return self.again(format!("GET {shown}: {broken}"), None);
        }
        if !answer.whole {
            return Err(Error::failed(format!(
                "GET {shown}: the answer is larger than max.response.bytes={}; ask for smaller pages, or raise it",
                self.config.max_response
            )));
        }
        Ok(())
    }

    /// Emits what is new in a page, and goes on behind it.
    fn take(&mut self, outgoing: &Outgoing, answer: &Answer, output: &mut Output<'_>) -> Result<()> {
        let shown = url::shown(&outgoing.uri);
        let read = Page::read(answer, &self.config.records_pointer).and_then(|page| {
            let records =
                page.records.iter().map(|record| self.record(record)).collect::<std::result::Result<Vec<_>, _>>()?;
            Ok((page, records))
        });
        let (page, mut records) = match read {
            Ok(read) => read,
            Err(why) => {
                self.malformed += 1;
                let message = format!("GET {shown}: {why}");
                if self.malformed >= MALFORMED {
                    return Err(Error::failed(format!("{message} ({MALFORMED} times)")));
                }
                return self.again(message, None);
            }
        };
        (self.tries, self.malformed) = (0, 0);
        let mut state = self.state.clone();
        let count = records.len();
        let all: Vec<String> = page.records.iter().map(|record| digest(record)).collect();
        if let Some(pointer) = &self.config.timestamp_pointer {
            for (record, digest) in page.records.iter().zip(&all) {
                if let Some(timestamp) = word_of(record, pointer) {
                    state.note(&timestamp, digest);
                }
            }
        }
        // Each that was read hides one of the same text: a further one is new.
        let (mut digests, mut seen) = (all.iter(), self.state.seen.clone());
        records.retain(|_| digests.next().is_none_or(|digest| !seen.remove(digest)));
        let goes_on = self.advance(&mut state, &page, answer, outgoing, count)?;
        if goes_on {
            // Those of a timestamp may stand on several pages.
            state.seen = seen;
            state.leave_page();
        } else {
            match &self.config.pagination {
                _ if self.config.timestamp_parameter.is_some() => state.begin_round(),
                // What lies before the offset does not come again.
                Pagination::Offset { .. } => state.seen.clear(),
                _ => state.seen = all.into_iter().collect(),
            }
            state.leave_conditions();
            // They are those of this URL alone.
            if self.request(&state)?.uri == self.request(&self.state)?.uri {
                let header = |name| answer.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
                (state.etag, state.last_modified) = (header(ETAG), header(LAST_MODIFIED));
            }
        }
        if state.seen.len().max(state.newest_seen.len()) > MOST_SEEN {
            return Err(Error::failed(format!(
                "GET {shown}: more than {MOST_SEEN} records would have to be remembered to tell new ones from old ones; use pagination, \
                 or a timestamp that fewer records share"
            )));
        }
        self.emit(records, &state, output)?;
        self.state = state;
        // A server that gives a new cursor with nothing before it has no more either.
        if !goes_on || count == 0 {
            self.end_round();
        }
        Ok(())
    }

    fn end_round(&mut self) {
        self.wait(self.config.interval.max(self.config.between));
    }

    /// Moves to the next page, if there is one.
    fn advance(
        &self,
        state: &mut State,
        page: &Page<'_>,
        answer: &Answer,
        outgoing: &Outgoing,
        count: usize,
    ) -> Result<bool> {
        let full = count as u64 >= self.config.page_size;
        Ok(match &self.config.pagination {
            Pagination::None => false,
            Pagination::Page { start, .. } => {
                state.page = Some(state.page.unwrap_or(*start) + u64::from(full));
                full
            }
            Pagination::Offset { .. } => {
                // What lies before never comes again, so that nothing has to be remembered of it.
                state.offset = Some(state.offset.unwrap_or(0) + count as u64);
                full
            }
            Pagination::Cursor { pointer, .. } => match page.word(pointer) {
                Some(next) if state.cursor.as_ref() != Some(&next) => {
                    state.cursor = Some(next);
                    true
                }
                _ => false,
            },
            Pagination::Link { pointer } => {
                let next = match pointer {
                    Some(pointer) => page.word(pointer),
                    None => next_link(answer),
                };
                let Some(next) = next else { return Ok(false) };
                let joined = url::join(&outgoing.uri, &next)
                    .and_then(|to| {
                        if url::same_origin(&to, &self.config.url) {
                            Ok(to)
                        } else {
                            Err("it is on another host".into())
                        }
                    })
                    .map_err(|why| Error::failed(format!("the next page is not followed: {why}")))?;
                let moved = joined != outgoing.uri;
                state.next = Some(joined.to_string());
                moved
            }
        })
    }

    fn record(&self, text: &str) -> std::result::Result<Record, String> {
        let record = Record::raw_json(text);
        match &self.config.key_pointer {
            None => Ok(record),
            Some(pointer) => match word_of(text, pointer) {
                Some(key) => Ok(record.key(key)),
                None => Err(format!("a record has no key at {pointer}")),
            },
        }
    }

    fn emit(&self, records: Vec<Record>, state: &State, output: &mut Output<'_>) -> Result<()> {
        let offset = serde_json::to_value(state)?;
        let mut left = records.len();
        let mut batch = Records::to(self.config.topic.clone()).from(&self.partition);
        for record in records {
            left -= 1;
            batch.push(if left == 0 { record.offset(&offset) } else { record })?;
            if batch.len() >= BATCH || batch.bytes() >= BATCH_BYTES {
                std::mem::replace(&mut batch, Records::to(self.config.topic.clone()).from(&self.partition))
                    .emit(output)?;
            }
        }
        batch.emit(output)
    }

    /// The next request.
    fn request(&self, state: &State) -> Result<Outgoing> {
        let mut query: Vec<(&str, String)> = Vec::new();
        match &self.config.pagination {
            Pagination::Page { parameter, start } => query.push((parameter, state.page.unwrap_or(*start).to_string())),
            Pagination::Offset { parameter } => query.push((parameter, state.offset.unwrap_or(0).to_string())),
            Pagination::Cursor { parameter, .. } => {
                query.extend(state.cursor.clone().map(|cursor| (parameter.as_str(), cursor)))
            }
            Pagination::None | Pagination::Link { .. } => {}
        }
        if let Some(parameter) = &self.config.size_parameter {
            query.push((parameter, self.config.page_size.to_string()));
        }
        if let Some(parameter) = &self.config.timestamp_parameter {
            let since = state.since.clone().or_else(|| self.config.timestamp_start.clone());
            query.extend(since.map(|since| (parameter.as_str(), since)));
        }
        let uri = match &state.next {
            // It has all parameters already.
            Some(next) => {
                let uri = url::parse(next).map_err(|why| Error::failed(format!("the stored offset's URL: {why}")))?;
                if !url::same_origin(&uri, &self.config.url) {
                    return Err(Error::failed(
                        "the stored offset's URL is on another host; reset the connector's offsets",
                    ));
                }
                uri
            }
            None => with_query(&self.config.url, &query)?,
        };
        let mut headers: HeaderMap = self.config.headers.clone();
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("application/json"));
        headers.remove(CONTENT_TYPE);
        let conditions = [(IF_NONE_MATCH, &state.etag), (IF_MODIFIED_SINCE, &state.last_modified)];
        for (name, value) in conditions.into_iter().filter(|_| self.config.conditional) {
            if let Some(value) = value.as_ref().and_then(|value| HeaderValue::from_str(value).ok()) {
                headers.insert(name, value);
            }
        }
        Ok(Outgoing { method: hyper::Method::GET, uri, headers, body: Default::default() })
    }
}

fn with_query(base: &Uri, query: &[(&str, String)]) -> Result<Uri> {
    if query.is_empty() {
        return Ok(base.clone());
    }
    let query: Vec<_> =
        query.iter().map(|(name, value)| format!("{}={}", url::encoded(name), url::encoded(value))).collect();
    let between = if base.query().is_none_or(str::is_empty) { "?" } else { "&" };
    let base = base.to_string();
    let text = format!("{}{between}{}", base.trim_end_matches('?'), query.join("&"));
    url::parse(&text).map_err(|why| Error::failed(format!("the URL with its parameters is none: {why}")))
}
