//! The listener: takes requests, and answers each when its records are durable, or it is known that they are not.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{
    ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_rustls::TlsAcceptor;
use tributary_sdk::{Context, Error, Result};

use super::body::Refused;
use super::inbox::{Inbox, Received};
use super::limit::Limit;
use super::patient::Patient;
use crate::config::webhook::WebhookConfig;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;
/// Longest head of a request.
const LONGEST_HEAD: usize = 64 << 10;

/// What the listener's threads share.
pub(super) struct Shared {
    pub context: Context,
    pub config: WebhookConfig,
    pub inbox: Inbox,
    pub limit: Option<Limit>,
    /// True: no further requests.
    pub closing: watch::Sender<bool>,
}

/// The connectors of this process that share an address among their tasks, and how many of these do.
static SHARED: Mutex<BTreeMap<SocketAddr, (String, usize)>> = Mutex::new(BTreeMap::new());

/// One task's right to share an address with the others of its connector, until it is dropped.
pub(super) struct Claim(SocketAddr);

impl Claim {
    /// Fails where the tasks of another connector have the address: the kernel would deal the requests between both.
    pub fn of(address: SocketAddr, connector: &str) -> Result<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let (owner, tasks) = shared.entry(address).or_insert_with(|| (connector.to_owned(), 0));
        if owner != connector {
            return Err(Error::retriable(format!("cannot listen on {address}: the connector {owner} does")));
        }
        *tasks += 1;
        Ok(Self(address))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, tasks)) = shared.get_mut(&self.0) {
            *tasks -= 1;
            if *tasks == 0 {
                shared.remove(&self.0);
            }
        }
    }
}

/// Binds the address, alone or together with others that share it.
pub(super) fn bind(address: SocketAddr, share: bool) -> Result<TcpListener> {
    let bound = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(share)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bound().map_err(|error: std::io::Error| {
        let message = format!("cannot listen on {address}: {error}");
        match error.kind() {
            // Whoever has it may go away.
            std::io::ErrorKind::AddrInUse => Error::retriable(message),
            _ => Error::failed(format!("{message}; correct listen, or give the worker's user the right to")),
        }
    })
}

/// Accepts until told to close. `alive` is held as long as a connection is open.
pub(super) async fn run(shared: Arc<Shared>, listener: TcpListener, alive: mpsc::Sender<()>) {
    let connections = Arc::new(Semaphore::new(shared.config.max_connections));
    let mut closing = shared.closing.subscribe();
    loop {
        let accept = async {
            let permit = connections.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            accepted = accept => accepted,
            _ = closing.wait_for(|closing| *closing) => return,
        };
        let Ok((stream, _)) = accepted else {
            // Too many open files, say: what is open goes on meanwhile.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (shared, alive) = (shared.clone(), alive.clone());
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            connection(shared, stream).await;
            drop((permit, alive));
        });
    }
}

async fn connection(shared: Arc<Shared>, stream: TcpStream) {
    let stream = Patient::new(stream, shared.config.request_timeout);
    let Some(tls) = shared.config.tls.clone() else { return serve(shared, TokioIo::new(stream)).await };
    let handshake = TlsAcceptor::from(tls).accept(stream);
    if let Ok(Ok(stream)) = tokio::time::timeout(shared.config.request_timeout, handshake).await {
        serve(shared, TokioIo::new(stream)).await;
    }
}

async fn serve<S>(shared: Arc<Shared>, stream: S)
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
{
    let service = |request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(answer(&shared, request).await) }
    };
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(shared.config.request_timeout).max_buf_size(LONGEST_HEAD);
    let mut closing = shared.closing.subscribe();
    let connection = builder.serve_connection(stream, service_fn(service));
    tokio::pin!(connection);
    tokio::select! {
        // Errors are the sender's: it went away, or speaks no HTTP.
        _ = connection.as_mut() => return,
        _ = closing.wait_for(|closing| *closing) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// A refusal, and what to send with it.
struct Answer {
    status: StatusCode,
    message: String,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Answer {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), header: None }
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }

    /// Try again after this time.
    fn later(status: StatusCode, message: impl Into<String>, wait: Duration) -> Self {
        let seconds = wait.as_secs_f64().ceil().max(1.0) as u64;
        Self::new(status, message).with(RETRY_AFTER, seconds.into())
    }
}

async fn answer(shared: &Shared, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let outcome = take(shared, request).await;
    let (status, body, header) = match outcome {
        Ok(records) => (StatusCode::OK, serde_json::json!({"records": records}), None),
        Err(Answer { status, message, header }) => {
            shared.context.count("webhook-refused", 1.0);
            (status, serde_json::json!({"error": message}), header)
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().extend(header);
    if !matches!(status, StatusCode::OK | StatusCode::SERVICE_UNAVAILABLE) {
        // The rest of the body is not waited for, and whoever may not send does not hold the connection.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The records of a request, once they are durable.
async fn take(shared: &Shared, request: Request<Incoming>) -> Result<usize, Answer> {
    let config = &shared.config;
    if request.uri().path() != config.path {
        return Err(Answer::new(StatusCode::NOT_FOUND, "no webhook listens at this path"));
    }
    if !matches!(*request.method(), Method::POST | Method::PUT) {
        let allowed = HeaderValue::from_static("POST, PUT");
        return Err(Answer::new(StatusCode::METHOD_NOT_ALLOWED, "send with POST").with(ALLOW, allowed));
    }
    if let Some(Err(wait)) = shared.limit.as_ref().map(Limit::take) {
        return Err(Answer::later(StatusCode::TOO_MANY_REQUESTS, "too many requests", wait));
    }
    let (head, body) = request.into_parts();
    let unauthorized = |message: &str| {
        let challenge = HeaderValue::from_static(r#"Basic realm="webhook", Bearer"#);
        Answer::new(StatusCode::UNAUTHORIZED, message).with(WWW_AUTHENTICATE, challenge)
    };
    if !config.gate.admits(&head.headers) {
        return Err(unauthorized("sign in"));
    }
    if head.headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(Answer::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send the body without Content-Encoding"));
    }
    let too_large = || Answer::new(StatusCode::PAYLOAD_TOO_LARGE, format!("a body may have {} bytes", config.max_body));
    if body.size_hint().lower() > config.max_body as u64 {
        return Err(too_large());
    }
    let reading = Limited::new(body, config.max_body).collect();
    let body = match tokio::time::timeout(config.request_timeout, reading).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_large()),
        Ok(Err(_)) => return Err(Answer::new(StatusCode::BAD_REQUEST, "the body breaks off")),
        Err(_) => return Err(Answer::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() as i64);
    if !config.gate.is_signed(&head.headers, &body, now) {
        return Err(unauthorized("the signature is missing, wrong or too old"));
    }
    let records = config.reading.records(&head.headers, &body).map_err(|refused| match refused {
        Refused::Malformed(why) => Answer::new(StatusCode::BAD_REQUEST, why),
        Refused::TooLarge => {
            Answer::new(StatusCode::PAYLOAD_TOO_LARGE, "the body has too many records for such long headers")
        }
        Refused::TooMany => {
            Answer::new(StatusCode::PAYLOAD_TOO_LARGE, format!("a body may have {} records", config.reading.most))
        }
    })?;
    let count = records.len();
    if count == 0 {
        return Ok(0);
    }
    let bytes = body.len() + count * config.reading.copied(&head.headers);
    durable(shared, records, bytes).await?;
    Ok(count)
}

/// Hands records over and waits until they are safe.
fn durable(
    shared: &Shared,
    records: Vec<tributary_sdk::Record>,
    bytes: usize,
) -> impl Future<Output = Result<(), Answer>> + use<'_> {
    let (durable, told) = oneshot::channel();
    // A record is more than its text.
    let bytes = bytes + 200 * records.len();
    let pushed = shared.inbox.push(Received { records, bytes, durable });
    async move {
        let busy = |message| Answer::later(StatusCode::SERVICE_UNAVAILABLE, message, Duration::from_secs(1));
        if pushed.is_err() {
            return Err(busy("too much waits to be stored"));
        }
        match tokio::time::timeout(shared.config.answer_timeout, told).await {
            Ok(Ok(())) => Ok(()),
            Ok(_) => Err(busy("it is not known whether the records are stored: send them again")),
            Err(_) => Err(busy("the records were not stored in time: send them again")),
        }
    }
}
