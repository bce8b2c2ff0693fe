//! A plain loop over the HTTP client that the connectors have: so many requests at a time, each on a connection of its own that is
//! kept, from memory, on one thread. In a process of its own, so that its costs are its own.

use std::process::Command;

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tributary_harness::{Context, Error, Result, Usage};

/// What a loop is to do.
#[derive(Clone, Debug, clap::Args)]
pub struct Post {
    /// Where to.
    pub url: String,
    /// How many requests.
    pub requests: u64,
    /// How many at a time.
    pub concurrency: usize,
}

/// Runs the loop in another process; its CPU seconds.
pub fn in_a_process(url: &str, requests: u64, concurrency: usize) -> Result<f64> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["post", url, &requests.to_string(), &concurrency.to_string()]);
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let failed = || format!("the plain loop: {}", String::from_utf8_lossy(&output.stderr));
    text.trim().parse().map_err(|_| Error::new(failed()))
}

/// Runs the loop and prints the CPU seconds that it took.
pub fn post(work: &Post) -> Result<()> {
    let before = Usage::of(std::process::id())?.cpu;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let body = Bytes::from(super::record());
    let local = tokio::task::LocalSet::new();
    runtime.block_on(local.run_until(async {
        let left = std::rc::Rc::new(std::cell::Cell::new(work.requests));
        let lanes = (0..work.concurrency).map(|_| {
            let (left, url, body) = (left.clone(), work.url.clone(), body.clone());
            tokio::task::spawn_local(async move {
                lane(&url, body, || {
                    let more = left.get() > 0;
                    left.set(left.get().saturating_sub(1));
                    more
                })
                .await
            })
        });
        for lane in lanes.collect::<Vec<_>>() {
            lane.await.map_err(|error| Error::new(error.to_string()))??;
        }
        Ok::<_, Error>(())
    }))?;
    println!("{}", (Usage::of(std::process::id())?.cpu - before).as_secs_f64());
    Ok(())
}

async fn lane(url: &str, body: Bytes, more: impl Fn() -> bool) -> Result<()> {
    let failed = |error: &dyn std::fmt::Display| Error::new(format!("{url}: {error}"));
    let authority = url.strip_prefix("http://").and_then(|rest| rest.split('/').next()).context("no http URL")?;
    let path = &url["http://".len() + authority.len()..];
    let stream = TcpStream::connect(authority).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    tokio::task::spawn_local(connection);
    while more() {
        let request = Request::post(path)
            .header(HOST, authority)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body.clone()))
            .map_err(|error| failed(&error))?;
        let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
        if !answer.status().is_success() {
            return Err(failed(&answer.status()));
        }
        answer.into_body().collect().await.map_err(|error| failed(&error))?;
    }
    Ok(())
}
