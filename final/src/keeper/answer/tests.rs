use anyhow::{Context, Result};
use domain::base::iana::{Opcode, Rcode, Rtype};
use domain::base::message_builder::OptBuilder;
use domain::base::{Message, MessageBuilder, Name};
use domain::rdata::AllRecordData;

use super::super::neighbours::tests::neighbours;
use super::{Outcome, Transport, answer, is_answer, refuse};

/// A question, with an OPT record where `edns` says how much there is room for.
fn question(name: &str, kind: Rtype, edns: Option<u16>) -> Result<Vec<u8>> {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(0x1234);
    builder.header_mut().set_rd(true);
    let mut builder = builder.question();
    let name: Name<Vec<u8>> = name.parse()?;
    builder.push((name, kind))?;
    let mut builder = builder.additional();
    if let Some(size) = edns {
        builder.opt(|opt: &mut OptBuilder<'_, Vec<u8>>| {
            opt.set_udp_payload_size(size);
            Ok(())
        })?;
    }
    Ok(builder.finish())
}

/// What the answer says: its code, and the data.
fn told(reply: &[u8]) -> Result<(Rcode, Vec<String>)> {
    let message = Message::from_octets(reply)?;
    let records = message.answer()?.limit_to::<AllRecordData<_, _>>();
    let data = records.map(|record| Ok(record?.data().to_string()));
    Ok((
        message.header().rcode(),
        data.collect::<Result<Vec<String>>>()?,
    ))
}

/// What web is answered, by UDP.
fn ask(name: &str, kind: Rtype, turn: usize) -> Result<Outcome> {
    let query = question(name, kind, None)?;
    Ok(answer(&query, Transport::Udp, "web", &neighbours()?, turn))
}

fn reply(name: &str, kind: Rtype, turn: usize) -> Result<(Rcode, Vec<String>)> {
    match ask(name, kind, turn)? {
        Outcome::Reply(reply) => told(&reply),
        other => anyhow::bail!("{name}: {other:?}"),
    }
}

#[test]
fn a_name_is_found_whatever_its_case_and_with_its_network() -> Result<()> {
    for name in ["db.", "DB.", "db.front.", "Db.Front.", "store."] {
        let (code, data) = reply(name, Rtype::A, 0)?;
        assert_eq!(
            (code, data),
            (Rcode::NOERROR, vec!["10.1.0.3".into()]),
            "{name}"
        );
    }
    let (_, data) = reply("db.", Rtype::AAAA, 0)?;
    assert_eq!(data, ["fd00::3"]);
    Ok(())
}

#[test]
fn a_name_without_such_a_record_is_there_all_the_same() -> Result<()> {
    for kind in [Rtype::AAAA, Rtype::MX, Rtype::HTTPS, Rtype::TXT] {
        assert_eq!(reply("web.", kind, 0)?, (Rcode::NOERROR, Vec::new()));
    }
    Ok(())
}

#[test]
fn what_lives_elsewhere_is_not_known() -> Result<()> {
    for name in [
        "far.",
        "far.back.",
        "db.back.",
        "example.org.",
        "db.example.",
        ".",
    ] {
        assert_eq!(ask(name, Rtype::A, 0)?, Outcome::Others, "{name}");
    }
    Ok(())
}

#[test]
fn several_of_one_name_take_turns() -> Result<()> {
    let first = |turn| -> Result<_> {
        let (_, data) = reply("worker.", Rtype::A, turn)?;
        data.into_iter().next().context("an address")
    };
    assert_ne!(first(0)?, first(1)?);
    assert_eq!(first(3)?, first(43)?);
    Ok(())
}

#[test]
fn what_has_no_room_is_cut_off_and_fits_over_tcp() -> Result<()> {
    let known = neighbours()?;
    let sizes = |edns, transport| -> Result<_> {
        let query = question("worker.", Rtype::A, edns)?;
        match answer(&query, transport, "web", &known, 0) {
            Outcome::Reply(reply) => {
                let message = Message::from_octets(&reply)?;
                let count = message.header_counts().ancount();
                Ok((message.header().tc(), count, reply.len()))
            }
            other => anyhow::bail!("{other:?}"),
        }
    };
    let (cut, count, length) = sizes(None, Transport::Udp)?;
    assert!(cut && count > 20 && length <= 512, "{count} in {length}");
    let (cut, count, length) = sizes(Some(600), Transport::Udp)?;
    assert!(cut && count > 30 && length <= 600, "{count} in {length}");
    assert_eq!(sizes(Some(1232), Transport::Udp)?.1, 40);
    assert_eq!(sizes(None, Transport::Tcp)?.1, 40);
    Ok(())
}

#[test]
fn an_address_has_its_owners_name() -> Result<()> {
    let six = format!("3.{}0.0.d.f.ip6.arpa.", "0.".repeat(27));
    for name in ["3.0.1.10.in-addr.arpa.", "3.0.1.10.IN-ADDR.ARPA.", &six] {
        let (code, data) = reply(name, Rtype::PTR, 0)?;
        assert_eq!(
            (code, data),
            (Rcode::NOERROR, vec!["db.front.".into()]),
            "{name}"
        );
    }
    // Nobody lives there, and nobody else can know better.
    let nobody = reply("200.0.1.10.in-addr.arpa.", Rtype::PTR, 0)?;
    assert_eq!(nobody, (Rcode::NXDOMAIN, Vec::new()));
    // A name that is too long for a label.
    let (_, data) = reply("9.0.1.10.in-addr.arpa.", Rtype::PTR, 0)?;
    assert_eq!(data, ["cccccccccccc.front."]);
    for name in [
        "3.0.2.10.in-addr.arpa.",
        "1.0.1.10.in-addr.arpa.example.",
        "x.ip6.arpa.",
    ] {
        assert_eq!(ask(name, Rtype::PTR, 0)?, Outcome::Others, "{name}");
    }
    Ok(())
}

#[test]
fn what_is_no_question_is_not_answered() -> Result<()> {
    let known = neighbours()?;
    let good = question("db.", Rtype::A, Some(1232))?;
    let is = |packet: &[u8]| answer(packet, Transport::Udp, "web", &known, 0);
    let with = |change: fn(&mut Vec<u8>)| {
        let mut packet = good.clone();
        change(&mut packet);
        is(&packet)
    };
    assert_eq!(is(&[]), Outcome::Nothing);
    assert_eq!(with(|packet| packet.truncate(11)), Outcome::Nothing);
    assert_eq!(with(|packet| packet.truncate(14)), Outcome::Nothing);
    // An answer; no question; two of them; a name that is its own end, or lies behind the packet's.
    assert_eq!(with(|packet| packet[2] |= 0x80), Outcome::Nothing);
    assert_eq!(with(|packet| packet[5] = 0), Outcome::Nothing);
    assert_eq!(with(|packet| packet[5] = 2), Outcome::Nothing);
    assert_eq!(
        with(|packet| packet[12..14].copy_from_slice(&[0xc0, 12])),
        Outcome::Nothing
    );
    assert_eq!(
        with(|packet| packet[12..14].copy_from_slice(&[0xff, 0xff])),
        Outcome::Nothing
    );
    // Another operation (RFC 1035, 4.1.1).
    let mut update = good.clone();
    update[2] |= u8::from(Opcode::UPDATE) << 3;
    let Outcome::Reply(reply) = is(&update) else {
        anyhow::bail!("{:?}", is(&update));
    };
    assert_eq!(told(&reply)?.0, Rcode::NOTIMP);
    Ok(())
}

#[test]
fn nothing_that_comes_is_too_much() -> Result<()> {
    let known = neighbours()?;
    let samples = [
        question("worker.", Rtype::A, Some(1232))?,
        question("db.front.", Rtype::AAAA, None)?,
        question("3.0.1.10.in-addr.arpa.", Rtype::PTR, Some(512))?,
    ];
    // Any numbers do that are the same each time (xorshift).
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut any = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap_or(0)
    };
    let mut outcomes = [0; 3];
    for round in 0..30_000 {
        let mut packet = samples[round % samples.len()].clone();
        for _ in 0..=any(4) {
            let (at, value) = (any(packet.len()), any(256) as u8);
            packet[at] = value;
        }
        match any(4) {
            0 => packet.truncate(any(packet.len())),
            1 => packet.extend((0..any(64)).map(|byte| byte as u8 ^ 0xc0)),
            _ => {}
        }
        for transport in [Transport::Udp, Transport::Tcp] {
            let outcome = answer(&packet, transport, "web", &known, round);
            if let Outcome::Reply(reply) = &outcome {
                assert!(Message::from_octets(reply).is_ok() && reply[..2] == packet[..2]);
            }
            outcomes[match outcome {
                Outcome::Reply(_) => 0,
                Outcome::Others => 1,
                Outcome::Nothing => 2,
            }] += 1;
            refuse(&packet, transport, Rcode::SERVFAIL);
            is_answer(&packet, &samples[0]);
        }
    }
    assert!(outcomes.iter().all(|count| *count > 1000), "{outcomes:?}");
    Ok(())
}

#[test]
fn only_an_answer_to_the_question_is_one() -> Result<()> {
    let query = question("Example.org.", Rtype::A, None)?;
    let Some(good) = refuse(&query, Transport::Udp, Rcode::NXDOMAIN) else {
        anyhow::bail!("no reply");
    };
    assert!(is_answer(&good, &query));
    assert!(!is_answer(&query, &query));
    let mut other = good.clone();
    other[0] ^= 1;
    assert!(!is_answer(&other, &query), "another id");
    for name in ["example.com.", "example.org.example.org."] {
        let asked = question(name, Rtype::A, None)?;
        let theirs = refuse(&asked, Transport::Udp, Rcode::NXDOMAIN);
        assert!(
            !theirs.is_some_and(|theirs| is_answer(&theirs, &query)),
            "{name}"
        );
    }
    let asked = question("example.org.", Rtype::AAAA, None)?;
    let theirs = refuse(&asked, Transport::Udp, Rcode::NXDOMAIN);
    assert!(
        !theirs.is_some_and(|theirs| is_answer(&theirs, &query)),
        "another type"
    );
    Ok(())
}
