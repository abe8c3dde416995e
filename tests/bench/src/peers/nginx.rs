//! nginx, which answers by itself.

use super::Server;
use crate::programs::installed;
use crate::trouble::{Attempt, Result};

pub(crate) fn nginx() -> Result<Server> {
    let program = installed("nginx", "nginx-light")?;
    let mut written = Ok(());
    let server = Server::start(&program, |command, folder, port| {
        let configuration = folder.join("nginx.conf");
        written = std::fs::write(&configuration, text(port));
        command.arg("-p").arg(folder).arg("-c").arg(configuration).args(["-e", "error.log"]);
    });
    written.trying("write nginx.conf")?;
    server
}

/// Debian's defaults, but for one folder and as many connections as there may be.
fn text(port: u16) -> String {
    format!(
        "daemon off; worker_processes auto; worker_rlimit_nofile 20000; pid nginx.pid;
events {{ worker_connections 19500; }}
http {{
  access_log off; keepalive_timeout 600s; keepalive_requests 1000000000;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 \"\"; }} }}
}}
"
    )
}
