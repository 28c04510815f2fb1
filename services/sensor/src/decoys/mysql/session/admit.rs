//! Whether a client may come in.

use super::*;

/// Whether the client may come in; it has been told when not.
pub(super) async fn admitted<S: AsyncRead + AsyncWrite + Unpin>(
    of: &MySql,
    packets: &mut Packets<S>,
    session: &Session,
    build: &Build,
    hello: &Hello,
    salt: &[u8; 20],
    secure: bool,
) -> io::Result<bool> {
    let mut response = hello.response.clone();
    let plugins = hello.wants & can::PLUGIN_AUTH != 0;
    let method = if plugins { build.plugin } else { "mysql_native_password" };
    if plugins && hello.plugin != method {
        let mut switch = vec![0xfe];
        switch.extend(method.bytes());
        switch.push(0);
        switch.extend(salt);
        switch.push(0);
        packets.write(&switch).await?;
        packets.flush().await?;
        response = packets.read().await?.ok_or_else(|| broken("response"))?;
    }
    let native = method == "mysql_native_password";
    let scramble = |password: &str| {
        if native { login::native(password, salt) } else { login::caching(password, salt) }
    };
    let own =
        of.credentials.pairs().iter().filter(|(user, _)| *user == hello.user).map(|(_, password)| password.as_str());
    let mut password = own.chain(COMMON).find(|password| scramble(password) == response).map(str::to_owned);
    let accepts = |password: &Option<String>| {
        password.as_ref().is_some_and(|password| of.credentials.accepts(&hello.user, password))
    };
    let mut accepted = of.credentials.any() || accepts(&password);
    if !native && !response.is_empty() {
        if accepted && password.is_some() {
            packets.write(&[1, 3]).await?;
        } else {
            packets.write(&[1, 4]).await?;
            packets.flush().await?;
            let mut answer = packets.read().await?.ok_or_else(|| broken("response"))?;
            if secure {
                password = Some(text(answer.strip_suffix(&[0]).unwrap_or(&answer)));
            } else {
                if answer == [2] {
                    let key = of.key().await?;
                    packets.write(&[&[1], key.1.as_bytes()].concat()).await?;
                    packets.flush().await?;
                    answer = packets.read().await?.ok_or_else(|| broken("response"))?;
                    if let Ok(masked) = key.0.decrypt(Oaep::new::<Sha1>(), &answer) {
                        password = Some(login::unmasked(masked, salt));
                    }
                }
            }
            accepted = of.credentials.any() || accepts(&password);
        }
    }
    let hash = match (&password, native) {
        (None, true) => format!("$mysqlna${}*{}", hex::encode(salt), hex::encode(&response)),
        _ => String::new(),
    };
    let mut fields = vec![("username", hello.user.as_str()), ("method", method), ("database", hello.database.as_str())];
    match &password {
        Some(password) => fields.push(("password", password)),
        None if !hash.is_empty() => fields.push(("password_hash", &hash)),
        None => {}
    }
    if accepted {
        session.emit(EventType::AuthSuccess, format!("{} logged in", hello.user), &fields);
        return Ok(true);
    }
    session.emit(EventType::AuthFail, format!("{} was refused", hello.user), &fields);
    let using = if response.is_empty() { "NO" } else { "YES" };
    let refused = Refusal::new(
        1045,
        "28000",
        format!("Access denied for user '{}'@'{}' (using password: {using})", hello.user, session.peer().ip()),
    );
    packets.write(&refused.packet()).await?;
    packets.flush().await?;
    Ok(false)
}
