//! The HTTP client of the sink and the source: HTTP/1.1 with TLS, proxies and authentication.
//!
//! | File | Noun |
//! |---|---|
//! | `url`, `address` | what a URL means, and which addresses may be called |
//! | `connection`, `pool`, `tls` | connections: made, kept, secured |
//! | `auth`, `hidden` | credentials, and that nobody sees them |
//! | `status`, `backoff` | what an answer's status means, and when to try again |
//!
//! Promises: every wait has an end (`connect.timeout.ms`, `request.timeout.ms`); no more of a body is kept than the caller asks for;
//! credentials go to the host they are for and nowhere else: redirects lead to another one only where there are none. Fails with a
//! [`CallError`] that says whether the same call may succeed later. It never tries again by itself, unless the server cannot have
//! seen the request (a kept connection that was closed meanwhile) or a token has run out.

mod address;
mod auth;
mod backoff;
mod connection;
mod error;
mod hidden;
mod pool;
mod settings;
mod status;
mod tls;
pub(crate) mod url;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{HOST, HeaderName, HeaderValue, LOCATION, PROXY_AUTHORIZATION, USER_AGENT};
use hyper::http::uri::PathAndQuery;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Uri};

pub(crate) use auth::secret_value;
pub(crate) use backoff::{Backoff, retry_after};
pub(crate) use error::CallError;
pub(crate) use hidden::Hidden;
pub(crate) use settings::{RetryPolicy, get, parse};
pub(crate) use status::Statuses;
pub(crate) use tls::server_tls;

use auth::Auth;
use connection::Dialer;
use pool::{Lease, Pool};
use url::{LastTarget, Origin, Target};

/// A request to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// As much as was asked for.
    pub body: Bytes,
    /// Whether that is all of it.
    pub whole: bool,
    /// Why the rest of the body did not come.
    pub broken: Option<String>,
}

/// Sends requests. Used from one thread's runtime.
pub(crate) struct HttpClient {
    dialer: Dialer,
    pool: Pool,
    last_target: LastTarget,
    auth: Auth,
    /// Whether requests carry something that another host must not see.
    confidential: bool,
    connect_timeout: Duration,
    request_timeout: Duration,
    /// Redirects that are followed, one after the other.
    redirects: usize,
    pub hidden: Hidden,
}

const AGENT: HeaderValue = HeaderValue::from_static(concat!("tributary/", env!("CARGO_PKG_VERSION")));

impl HttpClient {
    /// Sends a request with credentials, follows redirects as far as that is right, and reads up to `limit` bytes of the answer.
    pub async fn send(&self, outgoing: &Outgoing, limit: usize) -> Result<Answer, CallError> {
        let mut outgoing = Cow::Borrowed(outgoing);
        let mut renewed = false;
        let mut redirects = 0;
        loop {
            let header = self.auth.header(self).await?;
            let answer = self.exchange(&outgoing, header.as_ref(), limit).await?;
            let sent = header.as_ref().map(|(_, value)| value);
            if answer.status == StatusCode::UNAUTHORIZED && !renewed && self.auth.refused(sent) {
                renewed = true;
                continue;
            }
            match self.redirect(&outgoing, &answer)? {
                Some(uri) if redirects < self.redirects => {
                    redirects += 1;
                    let outgoing = outgoing.to_mut();
                    if answer.status == StatusCode::SEE_OTHER {
                        outgoing.method = Method::GET;
                    }
                    outgoing.uri = uri;
                }
                Some(_) => {
                    let shown = url::shown(&outgoing.uri);
                    return Err(CallError::refused(format!("{shown} leads on, after {redirects} redirects already")));
                }
                None => return Ok(answer),
            }
        }
    }

    /// Where an answer leads, if it is to be followed. Redirects that would change what is asked are answers.
    fn redirect(&self, outgoing: &Outgoing, answer: &Answer) -> Result<Option<Uri>, CallError> {
        let reading = matches!(outgoing.method, Method::GET | Method::HEAD);
        let follows = match answer.status.as_u16() {
            307 | 308 => true,
            301..=303 => reading,
            _ => false,
        };
        let Some(location) = answer.headers.get(LOCATION).filter(|_| follows && self.redirects > 0) else {
            return Ok(None);
        };
        let shown = url::shown(&outgoing.uri);
        let to = url::join(&outgoing.uri, &String::from_utf8_lossy(location.as_bytes()))
            .map_err(|why| CallError::refused(format!("{shown} leads to nowhere: {why}")))?;
        let (from, target) = (Origin::of(&outgoing.uri), Origin::of(&to));
        if from != target {
            let downgrade = from.is_ok_and(|from| from.https) && target.is_ok_and(|target| !target.https);
            let why = match () {
                () if !reading => "records go nowhere but to the host that the config names",
                () if self.confidential => "credentials and configured headers go to no other host",
                () if downgrade => "what begins with TLS does not go on without",
                () => return Ok(Some(to)),
            };
            let to = url::shown(&to);
            return Err(CallError::refused(format!("{shown} leads to {to}, which is not followed: {why}")));
        }
        Ok(Some(to))
    }

    /// One request, with a header more where there is one, and its answer, within the time limits.
    async fn exchange(
        &self,
        outgoing: &Outgoing,
        header: Option<&(HeaderName, HeaderValue)>,
        limit: usize,
    ) -> Result<Answer, CallError> {
        // Only for errors.
        let shown = || format!("{} {}", outgoing.method, url::shown(&outgoing.uri));
        let refused = |why: String| CallError::refused(format!("{}: {why}", shown()));
        let target = self.last_target.of(&outgoing.uri).map_err(refused)?;
        let origin = target.origin.clone();
        let mut request = self.request(outgoing, target);
        if let Some((name, value)) = header {
            request.headers_mut().insert(name, value.clone());
        }
        let mut lease = match self.pool.take(&origin).await {
            Some(kept) => kept,
            None => self.connect(&origin, shown).await?,
        };
        let deadline = Instant::now() + self.request_timeout;
        let slow = || CallError::passing(format!("{}: no answer within {:?}", shown(), self.request_timeout));
        loop {
            let sent = tokio::time::timeout_at(deadline.into(), lease.sender.try_send_request(request)).await;
            match sent.map_err(|_| slow())? {
                Ok(response) => return Ok(self.read(response, lease, limit, deadline).await),
                Err(mut failed) => match failed.take_message() {
                    // The kept connection was closed before the request was on its way.
                    Some(unsent) if lease.kept => {
                        request = unsent;
                        lease = self.connect(&origin, shown).await?;
                    }
                    _ => return Err(CallError::passing(format!("{}: {}", shown(), causes(failed.error())))),
                },
            }
        }
    }

    async fn connect(&self, origin: &Arc<Origin>, shown: impl Fn() -> String) -> Result<Lease, CallError> {
        let connecting = async {
            let stream = self.dialer.connect(origin).await?;
            let (sender, connection) = hyper::client::conn::http1::handshake(stream)
                .await
                .map_err(|error| CallError::passing(causes(&error)))?;
            tokio::spawn(async move {
                // What breaks it also breaks the request on it, which tells.
                let _ = connection.await;
            });
            Ok(Lease { sender, kept: false, origin: origin.clone() })
        };
        match tokio::time::timeout(self.connect_timeout, connecting).await {
            Ok(connected) => connected
                .map_err(|error: CallError| CallError { message: format!("{}: {}", shown(), error.message), ..error }),
            Err(_) => Err(CallError::passing(format!("{}: no connection within {:?}", shown(), self.connect_timeout))),
        }
    }

    fn request(&self, outgoing: &Outgoing, Target { origin, host }: Target) -> Request<Full<Bytes>> {
        let through_proxy = self.dialer.proxy.as_ref().filter(|_| !origin.https);
        let target = match through_proxy {
            Some(_) => outgoing.uri.clone(),
            None => outgoing.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")).into(),
        };
        let mut request = Request::new(Full::new(outgoing.body.clone()));
        *request.method_mut() = outgoing.method.clone();
        *request.uri_mut() = target;
        let headers = request.headers_mut();
        *headers = outgoing.headers.clone();
        headers.insert(HOST, host);
        headers.entry(USER_AGENT).or_insert(AGENT);
        if let Some(authorization) = through_proxy.and_then(|proxy| proxy.authorization.clone()) {
            headers.insert(PROXY_AUTHORIZATION, authorization);
        }
        request
    }

    /// Reads what is wanted of the body.
    async fn read(&self, response: Response<Incoming>, lease: Lease, limit: usize, deadline: Instant) -> Answer {
        let (head, mut incoming) = response.into_parts();
        let mut body = Vec::new();
        let (mut whole, mut broken) = (true, None);
        // Where it is known that there is none, nothing has to be waited for.
        while !incoming.is_end_stream() {
            let frame = match tokio::time::timeout_at(deadline.into(), incoming.frame()).await {
                Ok(None) => break,
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => {
                    broken = Some(format!("the body breaks off: {}", causes(&error)));
                    break;
                }
                Err(_) => {
                    broken = Some(format!("no whole body within {:?}", self.request_timeout));
                    break;
                }
            };
            let Some(data) = frame.data_ref() else { continue };
            let room = limit - body.len();
            body.extend_from_slice(&data[..data.len().min(room)]);
            if data.len() > room {
                whole = false;
                break;
            }
        }
        whole &= broken.is_none();
        if whole {
            self.pool.put_back(lease);
        }
        Answer { status: head.status, headers: head.headers, body: body.into(), whole, broken }
    }
}

/// An error with what it comes from: hyper says little by itself.
fn causes(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
