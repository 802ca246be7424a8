//! A server that ends at each point of a call: what the next one makes of what it left.

use std::time::Duration;

use souk_gateway::crash_points::CrashPoint;

use crate::calls::{End, ask, question};
use crate::rows::{open, requests, totals, until_settled};
use crate::stack::Stack;

/// What is written of the request that is under way at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// No row.
    Nothing,
    /// Rows that are free.
    Free,
    /// Rows that are charged.
    Charged,
}

const fn left_at(point: CrashPoint) -> Left {
    match point {
        CrashPoint::Reserved => Left::Nothing,
        CrashPoint::Opened | CrashPoint::Queued | CrashPoint::Settled => Left::Free,
        CrashPoint::Journaled | CrashPoint::Written | CrashPoint::Counted => Left::Charged,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_point_of_a_call_a_server_ends_at_the_request_counts_once_or_is_free_and_holds_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("left");
    let settings = [("SOUK_GATEWAY_CRASH_FILE", file.to_str().unwrap()), ("SOUK_LIMITS__TOKENS_PER_MONTH", "100000")];
    let mut stack = Stack::start_with(&settings);
    let (mut num_rows, mut charged) = (0, 0);
    for point in CrashPoint::ALL {
        for stream in [false, true] {
            std::fs::write(&file, format!("{} 1", point.as_str())).unwrap();
            let seen =
                ask(&stack.http(), &stack.url, &question(5, 2, stream), Some(&format!("{point:?} {stream}"))).await;
            assert!(!stack.wait(Duration::from_secs(20)), "it ends at the point\n{}", stack.log());
            assert!(stack.log().contains(&format!("ends at the crash point {}", point.as_str())), "{}", stack.log());
            stack.restart();
            until_settled(&stack).await;
            let db = open(&stack.data_dir()).await;
            let left = left_at(point);
            num_rows += usize::from(left != Left::Nothing);
            // What the journal has open is neither held nor settled before it was looked into.
            let mut rows = requests(&db).await;
            for _ in 0..3000 {
                if rows.len() >= num_rows {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
                rows = requests(&db).await;
            }
            assert_eq!(rows.len(), num_rows, "{point:?} {stream}: {seen:?}");
            if let Some(row) = rows.values().max_by_key(|row| row.request.clone()).filter(|_| left != Left::Nothing) {
                assert_eq!(row.jobs.len(), 2, "{point:?}: {row:?}");
                assert_eq!(row.is_lost(), left == Left::Free, "{point:?}: {row:?}");
                charged += row.charged.0 + row.charged.1;
                if let (End::Answered(input, output), Left::Charged) = (&seen.end, left) {
                    assert_eq!(row.charged, (*input, *output), "{point:?}");
                }
            }
            let sums = totals(&db, "tenant").await;
            assert_eq!(sums.values().sum::<i64>(), charged, "{point:?}");
            // A charged request is not run again by its key, and a free one is.
            let again =
                ask(&stack.http(), &stack.url, &question(5, 2, stream), Some(&format!("{point:?} {stream}"))).await;
            match left {
                Left::Charged => {
                    assert_eq!(again.end, End::Refused(409, "idempotency_answer_not_kept".to_owned()), "{point:?}");
                }
                _ => {
                    let End::Answered(input, output) = again.end else { panic!("{point:?}: {again:?}") };
                    charged += input + output;
                    num_rows += 1;
                }
            }
            until_settled(&stack).await;
        }
    }
}
