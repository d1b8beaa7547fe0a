use std::time::Duration;

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

use super::{Mode, TcpProxy};
use crate::free_port;

const SOON: Duration = Duration::from_secs(5);
const A_WHILE: Duration = Duration::from_millis(200);

/// A server that answers every byte with the same byte, behind a proxy.
async fn echo() -> Result<(TcpProxy, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let upstream = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    let proxy = TcpProxy::start(free_port(), upstream).await?;
    let client = connect(&proxy).await?;
    Ok((proxy, client))
}

async fn connect(proxy: &TcpProxy) -> Result<TcpStream> {
    Ok(TcpStream::connect(("127.0.0.1", proxy.port())).await?)
}

async fn ping(client: &mut TcpStream) -> Result<()> {
    client.write_all(&[7]).await?;
    let answer = timeout(SOON, client.read_u8()).await??;
    anyhow::ensure!(answer == 7);
    Ok(())
}

#[tokio::test]
async fn passes_every_byte_and_the_end_of_the_stream() -> Result<()> {
    let (_proxy, mut client) = echo().await?;
    let sent: Vec<u8> = (0..1_000_000u32).map(|n| n as u8).collect();
    let (mut read, mut write) = client.split();
    let send = async {
        write.write_all(&sent).await?;
        write.shutdown().await
    };
    let mut received = Vec::new();
    tokio::try_join!(send, read.read_to_end(&mut received))?;
    assert!(received == sent);
    Ok(())
}

#[tokio::test]
async fn a_cut_resets_open_connections_and_refuses_new_ones_until_it_passes_again() -> Result<()> {
    let (proxy, mut client) = echo().await?;
    ping(&mut client).await?;
    proxy.set(Mode::Cut);
    let error = timeout(SOON, client.read_u8()).await?.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    // A reset can come before the connection is seen to be there, or after.
    let again = async { ping(&mut connect(&proxy).await?).await };
    assert!(again.await.is_err());
    proxy.set(Mode::Pass);
    ping(&mut connect(&proxy).await?).await
}

#[tokio::test]
async fn a_single_reset_spares_new_connections() -> Result<()> {
    let (proxy, mut client) = echo().await?;
    ping(&mut client).await?;
    proxy.reset_connections();
    assert!(timeout(SOON, client.read_u8()).await?.is_err());
    ping(&mut connect(&proxy).await?).await
}

#[tokio::test]
async fn a_stalled_connection_stays_open_and_silent_and_delivers_afterwards() -> Result<()> {
    let (proxy, mut client) = echo().await?;
    for mode in [Mode::Stall, Mode::StallAnswers] {
        proxy.set(mode);
        client.write_all(&[9]).await?;
        assert!(timeout(A_WHILE, client.read_u8()).await.is_err(), "{mode:?} lets nothing back");
        proxy.set(Mode::Pass);
        assert_eq!(timeout(SOON, client.read_u8()).await??, 9);
    }
    Ok(())
}

#[tokio::test]
async fn a_delay_costs_latency_each_way_and_not_rate() -> Result<()> {
    let (proxy, mut client) = echo().await?;
    proxy.set(Mode::Delay(A_WHILE));
    let begin = Instant::now();
    ping(&mut client).await?;
    assert!(begin.elapsed() >= 2 * A_WHILE);
    // Fifty chunks one after the other would take twenty seconds if each waited for the one before it.
    for _ in 0..50 {
        client.write_all(&[1; 1000]).await?;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut back = vec![0; 50_000];
    timeout(SOON, client.read_exact(&mut back)).await??;
    Ok(())
}

#[tokio::test]
async fn a_forgotten_connection_stays_silent_for_good_and_spares_new_ones() -> Result<()> {
    let (proxy, mut client) = echo().await?;
    ping(&mut client).await?;
    proxy.forget_connections();
    ping(&mut connect(&proxy).await?).await?;
    client.write_all(&[9]).await?;
    assert!(timeout(A_WHILE, client.read_u8()).await.is_err(), "it is neither answered nor reset");
    Ok(())
}

#[tokio::test]
async fn a_slow_proxy_lets_so_many_bytes_a_second_through_over_all_connections() -> Result<()> {
    let (proxy, mut one) = echo().await?;
    let mut two = connect(&proxy).await?;
    ping(&mut one).await?;
    ping(&mut two).await?;
    proxy.set(Mode::Slow(40_000));
    let begin = Instant::now();
    for client in [&mut one, &mut two] {
        client.write_all(&[1; 10_000]).await?;
    }
    let mut back = vec![0; 10_000];
    for client in [&mut one, &mut two] {
        timeout(SOON, client.read_exact(&mut back)).await??;
    }
    assert!(begin.elapsed() >= Duration::from_millis(500), "20,000 bytes came in {:?}", begin.elapsed());
    Ok(())
}
