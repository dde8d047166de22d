//! The Redis store over TLS: who is believed, and who is not.

use feastrs::ErrorKind;
use feastrs::config::{RedisConfig, RedisType};
use feastrs::store::redis::RedisStore;

use crate::redis_rows::{read, view, write};
use crate::redis_server::{RedisServer, config, tls_folder};

fn round_trip(connection_string: &str) -> feastrs::Result<u64> {
    let (store, view) = (RedisStore::new(&config(connection_string), "proj")?, view("v", 2));
    // More than a TLS record, so that reads and writes come in pieces.
    let value = vec![7; 100_000];
    let report = write(&store, &view, &["a", "b"], 1, &value)?;
    let rows = read(&store, &[view], &["a", "b"], 3)?;
    assert!(rows[0].iter().all(|(_, values)| values == &vec![Some(value.clone()); 2]));
    Ok(report.written)
}

#[test]
fn the_authority_and_the_name_count_unless_told_otherwise() {
    let server = RedisServer::start_tls(&["--tls-auth-clients", "no"]);
    let (port, ca) = (server.port, format!("ssl_ca_certs={}/ca.pem", tls_folder()));

    let authority = std::fs::read_to_string(format!("{}/ca.pem", tls_folder())).unwrap();
    for trusted in [
        format!("localhost:{port},ssl=true,{ca}"),
        format!("localhost:{port},ssl=true,ssl_ca_data={}", authority.trim()),
        format!("localhost:{port},ssl=true,ssl_min_version=TLSv1_3,{ca}"),
        format!("rediss://localhost:{port}?{ca}"),
        format!("rediss://127.0.0.1:{port}/0?{ca}&ssl_check_hostname=false"),
        format!("127.0.0.1:{port},ssl=true,{ca},ssl_check_hostname=false"),
        format!("127.0.0.1:{port},ssl=true,ssl_cert_reqs=none"),
        format!("127.0.0.1:{port},ssl=true,ssl_cert_reqs=none,busy_poll_us=0"),
        format!("127.0.0.1:{port},ssl=true,ssl_cert_reqs=none,busy_poll_us=65000"),
    ] {
        assert_eq!(round_trip(&trusted).expect(&trusted), 2);
    }
    let other = format!("ssl_ca_certs={}/server.pem", tls_folder());
    for doubtful in [
        format!("127.0.0.1:{port},ssl=true,{ca}"),
        format!("localhost:{port},ssl=true,{other}"),
        format!("localhost:{port},ssl=true,{other},ssl_check_hostname=false"),
    ] {
        let error = round_trip(&doubtful).expect_err(&doubtful);
        assert_eq!(error.kind(), ErrorKind::StoreUnavailable, "{error}");
        assert!(error.to_string().contains("certificate"), "{error}");
    }
}

#[test]
fn a_server_that_wants_to_know_its_clients() {
    let server = RedisServer::start_tls(&["--tls-auth-clients", "yes"]);
    let folder = tls_folder();
    let known = format!("localhost:{},ssl=true,ssl_ca_certs={folder}/ca.pem", server.port);
    let identity = format!("ssl_certfile={folder}/server.pem,ssl_keyfile={folder}/server.key");

    assert_eq!(round_trip(&format!("{known},{identity}")).unwrap(), 2);
    assert_eq!(round_trip(&known).unwrap_err().kind(), ErrorKind::StoreUnavailable);
}

#[test]
fn tls_where_there_is_none_and_none_where_there_is() {
    let (plain, tls) = (RedisServer::start(), RedisServer::start_tls(&[]));
    let ca = format!("ssl_ca_certs={}/ca.pem", tls_folder());

    for wrong in [
        format!("127.0.0.1:{}", tls.port),
        // A server without TLS waits for the end of a line that never comes.
        format!("localhost:{},ssl=true,{ca},socket_timeout=0.3", plain.port),
    ] {
        let error = round_trip(&wrong).expect_err(&wrong);
        let kinds = [ErrorKind::StoreUnavailable, ErrorKind::StoreInvalid, ErrorKind::StoreTimeout];
        assert!(kinds.contains(&error.kind()), "{error}");
        assert!(error.to_string().contains(wrong.split(',').next().unwrap_or_default()), "{error}");
    }
}

#[test]
fn a_cluster_whose_nodes_speak_tls() {
    let server = RedisServer::start_tls_cluster();
    let (view, ca) = (view("v", 2), format!("ssl_ca_certs={}/ca.pem", tls_folder()));
    let text = format!("localhost:{},ssl=true,{ca}", server.tls_port.expect("it has one"));
    let clustered = |text: &str| RedisConfig { redis_type: RedisType::Cluster, ..config(text) };
    let keys = ["a", "b", "c"];

    // The node does not know its own address, so it is reached by the name that was asked.
    let store = RedisStore::new(&clustered(&text), "proj").unwrap();
    let rows = read(&store, std::slice::from_ref(&view), &keys, 3).unwrap();
    assert_eq!(rows[0], vec![(None, vec![None; 2]); 3]);
    let plain = format!("localhost:{},{ca}", server.port);
    let store = RedisStore::new(&clustered(&plain), "proj").unwrap();
    assert_eq!(read(&store, std::slice::from_ref(&view), &keys, 3).unwrap(), rows);
    let wrong = clustered(&text.replace("/ca.pem", "/server.pem"));
    let error = read(&RedisStore::new(&wrong, "proj").unwrap(), &[view], &keys, 3).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StoreUnavailable, "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");
}
