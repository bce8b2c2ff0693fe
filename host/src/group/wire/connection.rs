//! One connection to a broker: opened, secured, versions agreed; then one request at a time, or several of a kind in one go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, RequestHeader, ResponseHeader, SaslAuthenticateRequest,
    SaslHandshakeRequest,
};
use kafka_protocol::protocol::{Decodable, StrBytes, encode_request_header_into_buffer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::api::Api;
use super::security::{Sasl, Step};
use super::{WireError, WireErrorKind, WireSettings};

/// Larger answers are none of ours: group metadata of very many connectors stays far below.
const MAX_ANSWER: usize = 64 << 20;

/// Requests on their way at a time; a broker answers one after the other.
const IN_FLIGHT: usize = 200;

/// Plain or encrypted.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// An open connection. After a call that failed with anything but an error code it is not to be used again.
pub struct Connection {
    stream: Box<dyn Stream>,
    server: String,
    client_id: StrBytes,
    versions: BTreeMap<i16, (i16, i16)>,
    correlation: i32,
    sasl: Option<Arc<Sasl>>,
    /// When the broker wants to know again who this is, if it does.
    authenticate_at: Option<Instant>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection({})", self.server)
    }
}

impl Connection {
    /// Connects to `host:port`: TCP, TLS, versions, SASL, all within the connect time-out.
    pub async fn open(settings: &WireSettings, server: &str) -> Result<Self, WireError> {
        match tokio::time::timeout(settings.connect_timeout, Self::set_up(settings, server)).await {
            Ok(connection) => connection,
            Err(_) => Err(WireError::new(
                WireErrorKind::TimedOut,
                format!("broker {server}: no connection in {} ms", settings.connect_timeout.as_millis()),
            )),
        }
    }

    async fn set_up(settings: &WireSettings, server: &str) -> Result<Self, WireError> {
        let stream = TcpStream::connect(server)
            .await
            .map_err(|error| WireError::away(format!("broker {server}: cannot connect: {error}")))?;
        // Requests are small and waited for.
        let _ = stream.set_nodelay(true);
        let stream: Box<dyn Stream> = match &settings.security.tls {
            Some(tls) => Box::new(BufReader::new(tls.connect(server, stream).await?)),
            None => Box::new(BufReader::new(stream)),
        };
        let mut connection = Self {
            stream,
            sasl: settings.security.sasl.clone(),
            authenticate_at: None,
            server: server.to_owned(),
            client_id: StrBytes::from_string(settings.client_id.clone()),
            versions: BTreeMap::new(),
            correlation: 0,
        };
        connection.agree_on_versions().await?;
        connection.authenticate().await?;
        Ok(connection)
    }

    /// `host:port`.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Asks and waits for the answer, at most `timeout`. The answer's own error code is the caller's to look at.
    pub async fn call<Request: Api>(
        &mut self,
        timeout: Duration,
        request: impl FnOnce(i16) -> Request,
    ) -> Result<Request::Answer, WireError> {
        self.keep_authenticated(timeout).await?;
        let version = self.version::<Request>()?;
        let request = request(version);
        self.exchange(timeout, &request, version).await
    }

    /// Asks several times in one go and waits for all answers, which come in the same order, at most `timeout`.
    pub async fn call_all<Request: Api>(
        &mut self,
        timeout: Duration,
        requests: &[Request],
    ) -> Result<Vec<Request::Answer>, WireError> {
        self.keep_authenticated(timeout).await?;
        let version = self.version::<Request>()?;
        let exchange = async {
            let mut answers = Vec::with_capacity(requests.len());
            for requests in requests.chunks(IN_FLIGHT) {
                let mut frames = BytesMut::new();
                let first = self.correlation.wrapping_add(1);
                for request in requests {
                    self.encode(&mut frames, request, version)?;
                }
                self.write(&frames).await?;
                for number in 0..requests.len() {
                    answers.push(self.answer::<Request>(first.wrapping_add(number as i32), version).await?);
                }
            }
            Ok(answers)
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(answers) => answers,
            Err(_) => Err(self.late(&format!("{:?}", Request::KEY), timeout)),
        }
    }

    async fn keep_authenticated(&mut self, timeout: Duration) -> Result<(), WireError> {
        if self.authenticate_at.is_none_or(|at| Instant::now() < at) {
            return Ok(());
        }
        match tokio::time::timeout(timeout, self.authenticate()).await {
            Ok(authenticated) => authenticated,
            Err(_) => Err(self.late("authenticating again", timeout)),
        }
    }

    /// The version that both sides speak.
    fn version<Request: Api>(&self) -> Result<i16, WireError> {
        let (oldest, newest) = Request::VERSIONS;
        let spoken = self.versions.get(&(Request::KEY as i16)).copied();
        match spoken {
            Some((min, max)) if min <= newest && max >= oldest => Ok(newest.min(max)),
            Some((min, max)) => Err(self.protocol(format!(
                "it speaks {:?} {min} to {max}, this client {oldest} to {newest}; brokers from Kafka 2.1 on are supported",
                Request::KEY
            ))),
            None => Err(self.protocol(format!("it does not know {:?} requests", Request::KEY))),
        }
    }

    async fn agree_on_versions(&mut self) -> Result<(), WireError> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("tributary"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        // An older broker answers in version 0 with an error and the versions that it speaks.
        let mut answer = None;
        for version in [3, 0] {
            let response: ApiVersionsResponse = self.exchange(Duration::MAX, &request, version).await?;
            let unsupported = ResponseError::UnsupportedVersion.code();
            if response.error_code == 0 {
                answer = Some(response);
                break;
            }
            if response.error_code != unsupported {
                return Err(self.protocol(format!("asked for its versions it answers error {}", response.error_code)));
            }
        }
        let answer = answer.ok_or_else(|| self.protocol("it speaks no known version of ApiVersions".to_owned()))?;
        self.versions = answer.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
        Ok(())
    }

    async fn exchange<Request: Api>(
        &mut self,
        timeout: Duration,
        request: &Request,
        version: i16,
    ) -> Result<Request::Answer, WireError> {
        let round_trip = self.round_trip(request, version);
        if timeout == Duration::MAX {
            return round_trip.await;
        }
        match tokio::time::timeout(timeout, round_trip).await {
            Ok(answer) => answer,
            Err(_) => Err(self.late(&format!("{:?}", Request::KEY), timeout)),
        }
    }

    fn late(&self, what: &str, timeout: Duration) -> WireError {
        let message = format!("broker {}: no answer to {what} in {} ms", self.server, timeout.as_millis());
        WireError::new(WireErrorKind::TimedOut, message)
    }

    /// Says who this client is, if the listener wants to know.
    async fn authenticate(&mut self) -> Result<(), WireError> {
        let Some(sasl) = self.sasl.clone() else { return Ok(()) };
        let (server, mechanism) = (self.server.clone(), sasl.mechanism);
        let refused = move |reason: &dyn std::fmt::Display| {
            WireError::new(WireErrorKind::Refused, format!("broker {server}: SASL {mechanism}: {reason}"))
        };
        let handshake = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(sasl.mechanism));
        let version = self.version::<SaslHandshakeRequest>()?;
        let answer = self.exchange(Duration::MAX, &handshake, version).await?;
        if let Some(code) = ResponseError::try_from_code(answer.error_code) {
            let offered: Vec<&str> = answer.mechanisms.iter().map(|mechanism| mechanism.as_str()).collect();
            return Err(refused(&format!("{code}; this listener offers {}", offered.join(", "))));
        }
        // Where tokens come from may be away for a while.
        let begun = sasl.begin().await.map_err(|reason| {
            WireError::new(WireErrorKind::Away, format!("broker {}: SASL {}: {reason}", self.server, sasl.mechanism))
        })?;
        let (mut message, mut dialogue) = begun;
        let version = self.version::<SaslAuthenticateRequest>()?;
        loop {
            let request = SaslAuthenticateRequest::default().with_auth_bytes(message.into());
            let answer = self.exchange(Duration::MAX, &request, version).await?;
            if let Some(code) = ResponseError::try_from_code(answer.error_code) {
                let reason = answer.error_message.map_or_else(|| code.to_string(), |message| message.to_string());
                return Err(refused(&reason));
            }
            match dialogue.next(&answer.auth_bytes).map_err(|reason| refused(&reason))? {
                Step::Send(next) => message = next,
                Step::Done => {
                    let life = u64::try_from(answer.session_lifetime_ms).ok().filter(|millis| *millis > 0);
                    // Some time before, as the Java client does.
                    self.authenticate_at = life.map(|millis| Instant::now() + Duration::from_millis(millis / 10 * 8));
                    return Ok(());
                }
            }
        }
    }

    async fn round_trip<Request: Api>(
        &mut self,
        request: &Request,
        version: i16,
    ) -> Result<Request::Answer, WireError> {
        let mut frame = BytesMut::new();
        self.encode(&mut frame, request, version)?;
        self.write(&frame).await?;
        self.answer::<Request>(self.correlation, version).await
    }

    /// Adds a request to what is to be written.
    fn encode<Request: Api>(
        &mut self,
        frames: &mut BytesMut,
        request: &Request,
        version: i16,
    ) -> Result<(), WireError> {
        self.correlation = self.correlation.wrapping_add(1);
        let header = RequestHeader::default()
            .with_request_api_key(Request::KEY as i16)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(self.client_id.clone()));
        let begin = frames.len();
        frames.extend_from_slice(&[0; 4]);
        encode_request_header_into_buffer(frames, &header)
            .and_then(|()| request.encode(frames, version))
            .map_err(|error| self.protocol(format!("{:?} cannot be written: {error}", Request::KEY)))?;
        let length = u32::try_from(frames.len() - begin - 4)
            .map_err(|_| self.protocol(format!("{:?} is too large", Request::KEY)))?;
        frames[begin..begin + 4].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }

    /// Reads the next answer, which has to be the one to the request of this number.
    async fn answer<Request: Api>(&mut self, correlation: i32, version: i16) -> Result<Request::Answer, WireError> {
        let mut answer = self.read(Request::KEY).await?;
        // The answer to ApiVersions always has the oldest header, and may be in version 0 whatever was asked.
        let (header, version) = match Request::KEY {
            ApiKey::ApiVersions
                if answer.get(4..6) == Some(&ResponseError::UnsupportedVersion.code().to_be_bytes()) =>
            {
                (0, 0)
            }
            key => (key.response_header_version(version), version),
        };
        let header = ResponseHeader::decode(&mut answer, header)
            .map_err(|error| self.protocol(format!("the answer to {:?} cannot be read: {error}", Request::KEY)))?;
        if header.correlation_id != correlation {
            return Err(
                self.protocol(format!("answer {} came when {correlation} was waited for", header.correlation_id))
            );
        }
        Request::Answer::decode(&mut answer, version)
            .map_err(|error| self.protocol(format!("the answer to {:?} cannot be read: {error}", Request::KEY)))
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        let written = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        written.await.map_err(|error| WireError::away(format!("broker {}: {error}", self.server)))
    }

    async fn read(&mut self, key: ApiKey) -> Result<Bytes, WireError> {
        let mut length = [0; 4];
        let broken = |server: &str, error: std::io::Error| {
            let hint = if error.kind() == std::io::ErrorKind::UnexpectedEof && key == ApiKey::ApiVersions {
                "; check that security.protocol is the one of this listener"
            } else {
                ""
            };
            WireError::away(format!("broker {server}: the connection broke: {error}{hint}"))
        };
        self.stream.read_exact(&mut length).await.map_err(|error| broken(&self.server, error))?;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_ANSWER {
            return Err(self.protocol(format!(
                "an answer of {length} bytes is announced; check that security.protocol is the one of this listener"
            )));
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer).await.map_err(|error| broken(&self.server, error))?;
        Ok(Bytes::from(answer))
    }

    fn protocol(&self, message: String) -> WireError {
        WireError::new(WireErrorKind::Protocol, format!("broker {}: {message}", self.server))
    }
}
