//! PostgreSQL is ended and started again, and killed and started again, while clients ask: no answer is lost, and all that was
//! used is in its rows afterwards, once.

#![cfg(has_postgres)]

use std::cell::{Cell, RefCell};

use serde_json::Value;
use souk_testkit::postgres::Postgres;
use souk_testkit::redis::Redis;

use crate::field::{Field, LIMIT};
use crate::fleet::until;
use crate::stack::BASE;
use crate::streams::question;

/// Does something to the server that takes its time, off the thread that clients ask on.
async fn at_once(server: Postgres, act: fn(&mut Postgres)) -> Postgres {
    let acted = tokio::task::spawn_blocking(move || {
        let mut server = server;
        act(&mut server);
        server
    });
    acted.await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgresql_that_is_restarted_or_killed_under_load_costs_no_answer_and_no_row() {
    let server = Postgres::private();
    let database = server.database();
    let url = database.url();
    let settings = [("SOUK_REGISTRY__DATABASE__URL", url.as_str()), ("SOUK_REGISTRY__DATABASE__SSLMODE", "disable")];
    let mut field = Field::start_with(&settings, Redis::that_forgets(), 0, 0).await;
    // Starting a database takes longer on a busy machine than rights are believed by default.
    field.add(1, 1, &[("SOUK_GATEWAY__RIGHTS_STALE_S", "60")]).await;
    let body = question(BASE, 16);
    let text = field.undisturbed(&body).await;
    let (is_over, answered) = (Cell::new(false), RefCell::new(Vec::<(String, Value)>::new()));
    let client = async || {
        while !is_over.get() {
            let answer = field.answer(0, &body).await;
            let request = answer.request.clone();
            let (told, usage) = answer.finish().await;
            assert_eq!(told, text, "{}", field.logs());
            answered.borrow_mut().push((request, usage));
        }
    };
    let more = async |what: &str| {
        let before = answered.borrow().len();
        println!("{what}");
        until(what, LIMIT, async || answered.borrow().len() >= before + 6).await;
    };
    let mut server = Some(server);
    let faults = async {
        more("requests are answered").await;
        for end in [Postgres::stop, Postgres::kill] {
            server = Some(at_once(server.take().unwrap(), end).await);
            more("requests are answered while the database is away").await;
            server = Some(at_once(server.take().unwrap(), Postgres::start).await);
            more("requests are answered with the database back").await;
        }
        is_over.set(true);
    };
    tokio::join!(client(), client(), faults);
    println!("{} requests were answered, none failed", answered.borrow().len());
    for (request, usage) in answered.into_inner() {
        field.is_charged_once(&request, &usage).await;
    }
    // Processes end before what they need.
    drop((field, server));
}
