use std::fs;
use std::path::Path;

use super::examples::{opened, settled};
use super::*;

fn settings(folder: &Path, max_bytes: u64) -> JournalSettings {
    JournalSettings { folder: folder.to_owned(), max_bytes }
}

fn open(folder: &Path) -> (Journal, Left) {
    Journal::open(settings(folder, 1 << 20)).unwrap()
}

/// Ends a journal as a kill would: nothing more is written, and the folder is free.
async fn kill(journal: Journal) {
    let commands = journal.commands.clone();
    drop(journal);
    let (done, is_done) = oneshot::channel();
    commands.send(Command::Close(done)).await.unwrap();
    is_done.await.unwrap().unwrap();
}

/// The segments of the first process that shares a folder.
fn segments(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder.join("1")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(".segment")).collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_a_process_leaves_is_found_by_the_next_once_and_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, found) = open(folder.path());
    assert_eq!(found, Left::default());
    for request in ["req_open", "req_dropped", "req_settled", "req_written"] {
        journal.opened(opened(request)).await.unwrap();
    }
    journal.dropped(RequestId::from_stored("req_dropped")).await;
    journal.settled(settled("req_settled")).await;
    journal.settled(settled("req_written")).await;
    journal.written(vec![RequestId::from_stored("req_written")]).await;
    kill(journal).await;

    let left = Left { settled: vec![settled("req_settled")], opened: vec![opened("req_open")] };
    let (journal, found) = open(folder.path());
    assert_eq!(found, left);
    kill(journal).await;
    let (journal, again) = open(folder.path());
    assert_eq!(again, left, "what became of it is not known yet");
    journal.settled(settled("req_open")).await;
    kill(journal).await;
    let (journal, found) = open(folder.path());
    assert_eq!(found, Left { settled: vec![settled("req_settled"), settled("req_open")], opened: Vec::new() });
    journal.written(found.settled.iter().map(|record| record.request.clone()).collect()).await;
    kill(journal).await;
    let (_journal, found) = open(folder.path());
    assert_eq!(found, Left::default());
}

#[tokio::test]
async fn processes_that_share_a_folder_have_journals_of_their_own_and_who_starts_takes_over_what_others_left() {
    let folder = tempfile::tempdir().unwrap();
    let (first, _) = open(folder.path());
    let (second, found) = open(folder.path());
    assert_eq!(found, Left::default());
    first.settled(settled("req_first")).await;
    second.settled(settled("req_second")).await;
    second.opened(opened("req_open")).await.unwrap();
    kill(second).await;
    // The second's are free, and the first still has its own.
    let (third, found) = open(folder.path());
    assert_eq!(found, Left { settled: vec![settled("req_second")], opened: vec![opened("req_open")] });
    kill(third).await;
    kill(first).await;
    let (fourth, Left { settled: mut found, opened: left_open }) = open(folder.path());
    found.sort_by(|one, other| one.request.cmp(&other.request));
    assert_eq!((&found, left_open), (&vec![settled("req_first"), settled("req_second")], vec![opened("req_open")]));
    fourth.written(found.into_iter().map(|record| record.request).collect()).await;
    fourth.dropped(RequestId::from_stored("req_open")).await;
    kill(fourth).await;
    assert_eq!(open(folder.path()).1, Left::default());
}

#[test]
fn a_folder_has_room_for_so_many_processes() {
    let folder = tempfile::tempdir().unwrap();
    let all: Vec<_> = (0..MOST_PROCESSES).map(|_| open(folder.path())).collect();
    let error = Journal::open(settings(folder.path(), 1 << 20)).err().unwrap();
    assert!(matches!(error, JournalError::Taken { .. }) && error.to_string().contains("data.dir"), "{error}");
    drop(all);
}

#[tokio::test]
async fn a_line_that_is_torn_or_changed_costs_itself_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(folder.path());
    for request in ["req_1", "req_2", "req_3"] {
        journal.settled(settled(request)).await;
    }
    kill(journal).await;
    let path = folder.path().join("1").join(&segments(folder.path())[0]);
    let mut bytes = fs::read(&path).unwrap();
    bytes[20] ^= 1;
    bytes.truncate(bytes.len() - 3);
    fs::write(&path, bytes).unwrap();
    let (_journal, found) = open(folder.path());
    assert_eq!(found, Left { settled: vec![settled("req_2")], opened: Vec::new() });
}

#[tokio::test]
async fn segments_go_when_all_in_them_is_written_and_what_is_full_lets_in_no_more_and_keeps_what_was() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(settings(folder.path(), 32 << 10)).unwrap();
    let mut requests = Vec::new();
    let refused = loop {
        let request = format!("req_{}", requests.len());
        if let Err(error) = journal.opened(opened(&request)).await {
            break error;
        }
        requests.push(request);
        assert!(requests.len() < 1000, "it has a bound");
    };
    let JournalError::Full { bytes, limit } = refused else { panic!("{refused}") };
    assert!(bytes >= limit && limit == 32 << 10, "{bytes} of {limit}");
    assert!(segments(folder.path()).len() >= 8);
    for request in &requests {
        journal.settled(settled(request)).await;
    }
    for request in &requests {
        journal.written(vec![RequestId::from_stored(request)]).await;
    }
    assert_eq!(segments(folder.path()).len(), 1, "{:?}", segments(folder.path()));
    journal.opened(opened("req_more")).await.unwrap();
    kill(journal).await;
    let (_journal, found) = open(folder.path());
    assert_eq!((found.settled.len(), found.opened.len()), (0, 1));
}

#[tokio::test]
async fn a_request_that_takes_long_keeps_no_more_than_its_own_lines() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(settings(folder.path(), 512 << 10)).unwrap();
    journal.opened(opened("req_long")).await.unwrap();
    journal.settled(settled("req_unwritten")).await;
    // Ten times what it may have.
    let mut num_bytes = 0;
    for number in 0.. {
        let request = format!("req_{number}");
        let before = journal.bytes();
        journal.opened(opened(&request)).await.unwrap_or_else(|error| panic!("request {number}: {error}"));
        journal.settled(settled(&request)).await;
        journal.written(vec![RequestId::from_stored(request)]).await;
        num_bytes += journal.bytes().saturating_sub(before);
        if num_bytes > 5 << 20 {
            break;
        }
    }
    assert!(segments(folder.path()).len() <= 6, "{:?}", segments(folder.path()));
    kill(journal).await;
    let (_journal, found) = open(folder.path());
    assert_eq!(found, Left { settled: vec![settled("req_unwritten")], opened: vec![opened("req_long")] });
}

#[tokio::test]
async fn what_is_set_aside_is_in_a_file_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(folder.path());
    journal.set_aside(settled("req_1")).await;
    let lines = Lines::read(&fs::read(folder.path().join("1/refused.log")).unwrap());
    assert_eq!(lines.entries, [Entry::Settled(settled("req_1"))]);
    kill(journal).await;
    assert_eq!(open(folder.path()).1, Left::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lines_of_many_at_once_are_all_there_once() {
    let folder = tempfile::tempdir().unwrap();
    // Segments are short, so that some are begun and some removed meanwhile.
    let (journal, _) = Journal::open(settings(folder.path(), 1 << 22)).unwrap();
    let journal = Arc::new(journal);
    let tasks = (0..8).map(|task| {
        let journal = Arc::clone(&journal);
        tokio::spawn(async move {
            for number in 0..200 {
                let request = format!("req_{task}_{number:03}");
                journal.opened(opened(&request)).await.unwrap();
                journal.settled(settled(&request)).await;
                if number % 2 == 0 {
                    journal.written(vec![RequestId::from_stored(request)]).await;
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    kill(Arc::into_inner(journal).unwrap()).await;
    let found = open(folder.path()).1.settled;
    let mut found: Vec<_> = found.iter().map(|record| record.request.as_str().to_owned()).collect();
    found.sort();
    let left = (0..8).flat_map(|task| (0..100).map(move |number| format!("req_{task}_{:03}", number * 2 + 1)));
    assert_eq!(found, left.collect::<Vec<_>>());
}
