//! Every route and method of the OpenAPI documents, asked by every kind of caller at both ports, with every kind of
//! adapter. What a cell answers follows from the table of rights (`registry/src/rights.rs`) and from nothing else. A new
//! route takes part by being in its document.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answer;
mod callers;
mod document;
mod expected;
mod field;
#[path = "../stack/mod.rs"]
mod stack;
mod subjects;

use std::collections::BTreeMap;

use answer::Answer;
use callers::{Caller, Port};
use document::{Route, Service};
use expected::{Expected, expected};
use field::Field;
use reqwest::Method;
use subjects::Subject;

/// Methods of the routes.
const METHODS: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_cell_of_routes_by_callers_by_subjects_answers_as_the_table_of_rights_says() {
    let routes = document::routes();
    let mut field = Field::new().await;
    let (mut num_cells, mut wrong) = (0, Vec::new());
    for route in &routes {
        let subjects = subjects_of(route);
        for port in Port::ALL {
            for caller in Caller::all() {
                let mut answers = BTreeMap::new();
                for &subject in subjects {
                    let expected = expected(route, caller, port, subject);
                    let (name, answer) = field.ask(route, caller, port, subject, expected).await;
                    num_cells += 1;
                    let cell = format!("{route}, {caller:?}, {port:?}, {subject:?}");
                    wrong.extend(answer.faults(route, expected).map(|fault| format!("{cell}: {fault}")));
                    answers.insert(subject, (expected, answer.without(&name)));
                }
                wrong.extend(told_apart(&answers).map(|fault| format!("{route}, {caller:?}, {port:?}: {fault}")));
            }
        }
    }
    println!("{num_cells} cells of {} routes × {} callers × 2 ports × subjects", routes.len(), Caller::all().len());
    let num_by_subject: usize = routes.iter().map(|route| subjects_of(route).len()).sum();
    assert_eq!(num_cells, num_by_subject * Caller::all().len() * Port::ALL.len());
    assert!(wrong.is_empty(), "{} faults in {num_cells} cells:\n{}", wrong.len(), wrong.join("\n"));
}

/// All adapters that a route is asked about; one where it is about none.
fn subjects_of(route: &Route) -> &'static [Subject] {
    if route.names_an_adapter() { &Subject::ALL } else { &Subject::ALL[..1] }
}

/// What is hidden from a caller must look like what is not there, to the last byte but its name.
fn told_apart(answers: &BTreeMap<Subject, (Expected, Answer)>) -> impl Iterator<Item = String> {
    let absent = answers.get(&Subject::Absent).filter(|(expected, _)| matches!(expected, Expected::Refused(404, _)));
    answers.iter().filter_map(move |(subject, (expected, answer))| {
        let (as_absent, absent) = absent?;
        let is_told = expected == as_absent && answer != absent;
        is_told.then(|| format!("{subject:?} is told from what is absent: {answer:?}, not {absent:?}"))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_of_services_are_not_there_for_everybody_and_take_nothing_of_tenants_and_no_other_takes_what_is_a_services()
 {
    let routes = document::routes();
    let of_registry = routes.iter().find(|route| route.service == Service::Registry).unwrap();
    let field = Field::new().await;
    let (mut num_cells, mut wrong) = (0, Vec::new());
    for (method, path, _) in souk_registry::INTERNAL {
        let path = format!("/registry/v1{}", path.replace("{digest}", "sha256:0").replace("{engine}", "e"));
        for port in Port::ALL {
            for caller in Caller::all() {
                let answer = field.ask_path(&path, &method.parse().unwrap(), caller, port).await;
                num_cells += 1;
                let expected = match (port, caller) {
                    (Port::Public, _) => (404, Some("not_found")),
                    // Services have no cookies.
                    (Port::Operators, Caller::Nobody | Caller::SessionOver | Caller::Session(_)) => {
                        (401, Some("key_missing"))
                    }
                    (Port::Operators, _) => (401, Some("key_invalid")),
                };
                let faults = answer.envelope_faults(of_registry).chain(answer.refusal_faults(expected));
                wrong.extend(faults.map(|fault| format!("{method} {path}, {caller:?}, {port:?}: {fault}")));
            }
        }
    }
    let of_a_service = field.of_a_service().await;
    for presented in &of_a_service {
        for route in routes.iter().filter(|route| route.is_guarded) {
            for port in Port::ALL {
                let answer = field.ask_as(route, presented, port).await;
                num_cells += 1;
                let code = match route.service {
                    Service::Registry => "key_invalid",
                    Service::Gateway => "invalid_api_key",
                };
                let faults = answer.envelope_faults(route).chain(answer.refusal_faults((401, Some(code))));
                wrong.extend(faults.map(|fault| format!("{route}, a service, {port:?}: {fault}")));
            }
        }
    }
    println!("{num_cells} cells of services");
    let num_guarded = routes.iter().filter(|route| route.is_guarded).count();
    let num_by_port = souk_registry::INTERNAL.len() * Caller::all().len() + num_guarded * of_a_service.len();
    assert_eq!(num_cells, num_by_port * Port::ALL.len());
    assert!(wrong.is_empty(), "{} faults in {num_cells} cells:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn methods_that_a_path_does_not_have_are_405_in_the_envelope_of_its_service_for_everybody() {
    let routes = document::routes();
    let field = Field::new().await;
    let (mut num_cells, mut wrong) = (0, Vec::new());
    for route in document::one_of_each_path(&routes) {
        for method in METHODS {
            if routes.iter().any(|other| other.path == route.path && other.method == method) {
                continue;
            }
            for port in Port::ALL {
                for caller in Caller::all() {
                    let answer = field.ask_with(route, &method, caller, port).await;
                    num_cells += 1;
                    let is_hidden = route.path == "/metrics" && port == Port::Public;
                    let code = match (route.service, is_hidden) {
                        (Service::Gateway, true) => (404, Some("unknown_url")),
                        (Service::Gateway, false) => (405, Some("method_not_supported")),
                        (Service::Registry, _) => (405, Some("method_not_allowed")),
                    };
                    let faults = answer.envelope_faults(route).chain(answer.refusal_faults(code));
                    let cell = format!("{method} {}, {caller:?}, {port:?}", route.path);
                    wrong.extend(faults.map(|fault| format!("{cell}: {fault}")));
                }
            }
        }
    }
    println!("{num_cells} cells of methods that paths do not have");
    let num_absent = document::one_of_each_path(&routes).count() * METHODS.len() - routes.len();
    assert_eq!(num_cells, num_absent * Caller::all().len() * Port::ALL.len());
    assert!(wrong.is_empty(), "{} faults in {num_cells} cells:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_that_nothing_has_are_refused_in_the_envelope_of_whose_prefix_they_have() {
    let routes = document::routes();
    let of = |service| routes.iter().find(|route| route.service == service).unwrap();
    let field = Field::new().await;
    let mut wrong = Vec::new();
    for (path, service) in [
        ("/nothing", Service::Gateway),
        ("/v1", Service::Gateway),
        ("/v1/", Service::Gateway),
        ("/v1/nothing", Service::Gateway),
        ("/v1/models/%ff", Service::Gateway),
        ("/v1/chat/completions/", Service::Gateway),
        ("/registry", Service::Gateway),
        ("/registry/v1", Service::Registry),
        ("/registry/v1/", Service::Registry),
        ("/registry/v1/nothing", Service::Registry),
        ("/registry/v1/adapters/", Service::Registry),
        ("/registry/v1/adapters/acme/%ff", Service::Registry),
        ("/registry/v1/tenants/acme", Service::Registry),
    ] {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            for caller in [Caller::Nobody, Caller::Owner, Caller::Operator] {
                let answer = field.ask_path(path, &method, caller, Port::Operators).await;
                let mut faults: Vec<String> = answer.envelope_faults(of(service)).collect();
                if !answer.is_refused() {
                    faults.push(format!("{answer:?}, not a refusal"));
                }
                wrong.extend(faults.into_iter().map(|fault| format!("{method} {path}, {caller:?}: {fault}")));
            }
        }
    }
    assert!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
}

/// It is in no document: the official API has one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_in_the_shape_of_openai_is_for_whom_usage_is_and_refused_in_its_envelope() {
    let routes = document::routes();
    let of_gateway = routes.iter().find(|route| route.service == Service::Gateway).unwrap();
    let field = Field::new().await;
    let (mut num_shown, mut wrong) = (0, Vec::new());
    for port in Port::ALL {
        for caller in Caller::all() {
            let native = field.ask_path("/registry/v1/usage", &Method::GET, caller, port).await;
            let path = "/v1/organization/usage/completions?start_time=1";
            let shaped = field.ask_path(path, &Method::GET, caller, port).await;
            num_shown += usize::from(shaped.status == 200);
            let mut faults: Vec<_> = shaped.envelope_faults(of_gateway).collect();
            if shaped.status != native.status {
                faults.push(format!("{} where usage answers {}", shaped.status, native.status));
            }
            wrong.extend(faults.into_iter().map(|fault| format!("{caller:?}, {port:?}: {fault}")));
        }
    }
    assert!(num_shown > 0 && num_shown < Caller::all().len() * Port::ALL.len(), "{num_shown}");
    assert!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
}
