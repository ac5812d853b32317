# Runs on the node, in any POSIX shell. The lines before this one set
#   hpc_step  start | install        hpc_home  HPCCLIENT_HOME, or empty
#   hpc_sha   the binary's SHA-256   hpc_id    its first 16 digits
#   hpc_tmp, hpc_size                where the binary was uploaded, and its length (install only)
# Answers are lines that start with "@hpcclient "; everything else is noise of the user's profile.

hpc_say() {
	printf '\n@hpcclient %s=%s\n' "$1" "$2"
}

hpc_line() {
	tail -n 20 | tr '\n\r' '  '
}

hpc_start() {
	hpc_out=$("$hpc_bin" serve --detach 2>&1 </dev/null)
	hpc_code=$?
	hpc_hello=$(printf '%s\n' "$hpc_out" | sed -n 's/^hpcclient-hello //p' | tail -n 1)
	if [ "$hpc_code" = 0 ] && [ -n "$hpc_hello" ]; then
		hpc_say exec "$hpc_bin"
		hpc_say hello "$hpc_hello"
	else
		hpc_say failed "exit status $hpc_code: $(printf '%s' "$hpc_out" | hpc_line)"
	fi
}

# Prepares the folder for an upload and says what an upload has to know.
hpc_examine() {
	if ! hpc_out=$(mkdir -p "$hpc_dir" 2>&1); then
		hpc_say folder "$hpc_dir"
		hpc_say unusable "$(printf '%s' "$hpc_out" | hpc_line)"
		return
	fi
	find "$hpc_root/bin" -name '.upload-*' -mtime +0 -exec rm -f '{}' ';' 2>/dev/null
	set -- $(df -Pk "$hpc_dir" 2>/dev/null | sed -n 2p)
	hpc_say free "${4:-}"
	hpc_probe=$hpc_dir/.upload-probe-$$
	if (printf '#!/bin/sh\nexit 0\n' >"$hpc_probe" && chmod 0700 "$hpc_probe") 2>/dev/null; then
		"$hpc_probe" 2>/dev/null || hpc_say noexec "$hpc_dir"
	fi
	rm -f "$hpc_probe"
	hpc_say absent "$hpc_dir"
}

hpc_hash() {
	if command -v sha256sum >/dev/null 2>&1; then
		sha256sum <"$1" | cut -c 1-64
	elif command -v shasum >/dev/null 2>&1; then
		shasum -a 256 <"$1" | cut -c 1-64
	elif command -v openssl >/dev/null 2>&1; then
		openssl dgst -sha256 <"$1" | sed 's/^.*= *//'
	else
		# Better than nothing: the binary hashes itself.
		chmod 0500 "$1" && "$1" version --json | sed -n 's/.*"build" *: *"\([0-9a-f]*\)".*/\1/p'
	fi
}

hpc_install() {
	hpc_got=$(wc -c <"$hpc_tmp" | tr -d ' ')
	if [ "$hpc_got" != "$hpc_size" ]; then
		hpc_say broken "$hpc_got of $hpc_size bytes arrived"
	elif hpc_got=$(hpc_hash "$hpc_tmp" 2>&1); [ "$hpc_got" != "$hpc_sha" ]; then
		hpc_say broken "its checksum on the node is $(printf '%s' "$hpc_got" | hpc_line)"
	elif ! hpc_out=$(chmod 0500 "$hpc_tmp" 2>&1 && mv -f "$hpc_tmp" "$hpc_bin" 2>&1); then
		hpc_say broken "$(printf '%s' "$hpc_out" | hpc_line)"
	else
		return 0
	fi
	rm -f "$hpc_tmp"
	return 1
}

hpc_main() {
	umask 077
	case $hpc_home in
	'~') HPCCLIENT_HOME=$HOME && export HPCCLIENT_HOME ;;
	'~/'*) HPCCLIENT_HOME=$HOME/${hpc_home#??} && export HPCCLIENT_HOME ;;
	?*) HPCCLIENT_HOME=$hpc_home && export HPCCLIENT_HOME ;;
	esac
	hpc_root=${HPCCLIENT_HOME:-$HOME/.local/share/hpcclient}
	hpc_dir=$hpc_root/bin/$hpc_id
	hpc_bin=$hpc_dir/hpcagent
	hpc_say home "${HPCCLIENT_HOME:-}"
	hpc_say uname "$(uname -s 2>/dev/null) $(uname -m 2>/dev/null)"
	if [ "$hpc_step" = install ] && ! hpc_install; then
		:
	elif [ -x "$hpc_bin" ]; then
		hpc_start
	else
		hpc_examine
	fi
	hpc_say end 1
}

hpc_main </dev/null
