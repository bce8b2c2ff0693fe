//! What stands before registries: a server that wants credentials, and an HTTP proxy.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tributary_harness::Result;

/// Passes requests on to a port of this machine.
pub struct Front {
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Front {
    /// Refuses requests whose `Authorization` is not one of these; with none, everybody may.
    pub fn start(target: u16, authorizations: &[&str]) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let known: Vec<String> = authorizations.iter().map(|text| (*text).to_owned()).collect();
        let log = seen.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(std::result::Result::ok) {
                let (known, log) = (known.clone(), log.clone());
                // A client that goes away in the middle is no failure of the test.
                thread::spawn(move || drop(serve(client, target, &known, &log)));
            }
        });
        Ok(Self { port, seen })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The requests so far: method, target, and the answer's status where it is the front's own.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve(client: TcpStream, target: u16, known: &[String], log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut client = client;
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let (mut head, mut length, mut authorization) = (String::new(), 0, String::new());
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap_or(0),
                "authorization" => value.trim().clone_into(&mut authorization),
                "connection" => continue,
                _ => {}
            }
            head.push_str(&line);
        }
        let mut words = request.split_whitespace();
        let (method, uri) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let allowed = known.is_empty() || known.contains(&authorization);
        let verdict = if allowed { "" } else { " 401" };
        log.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{method} {uri}{verdict}"));
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        if !allowed {
            let text = r#"{"error_code":40101,"message":"who are you?"}"#;
            write!(client, "HTTP/1.1 401 Unauthorized\r\ncontent-length: {}\r\n\r\n{text}", text.len())?;
            continue;
        }
        let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, target))?;
        if method == "CONNECT" {
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
            let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
            thread::spawn(move || {
                let _ = to.write_all(reader.buffer());
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Both);
            });
            std::io::copy(&mut server, &mut client)?;
            return client.shutdown(Shutdown::Both);
        }
        // As a proxy it gets the whole URL.
        let path = match uri.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
            None => uri,
        };
        write!(server, "{method} {path} HTTP/1.1\r\n{head}Connection: close\r\n\r\n")?;
        server.write_all(&body)?;
        std::io::copy(&mut server, &mut client)?;
        return client.shutdown(Shutdown::Both);
    }
}
