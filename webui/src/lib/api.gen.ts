// Generated from docs/openapi.json by `npm run gen`. Do not edit.

export interface paths {
  '/v1/audit': {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /** What guests did with what this user shares, newest first. */
    get: operations['listAudit'];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  '/v1/events': {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /** Every event from now on. A client that does not read in time is cut and must ask again. */
    get: operations['followEvents'];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  '/v1/file': {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /** `GET /v1/file?path=`. */
    get: operations['readFile'];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  '/v1/files': {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /** `GET /v1/files?path=&offset=&limit=&sort=`. */
    get: operations['listFiles'];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  '/v1/node': {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /** What the node is. It takes some seconds where a disk or a batch system does not answer. */
    get: operations['getNode'];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  '/v1/node/bytes': {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /** Bytes that cannot be compressed, to measure the way. */
    get: operations['getNoise'];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  '/v1/runs': {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /** A page of runs, newest first. It ends early when its runs are large; `next` tells. */
    get: operations['listRuns'];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  '/v1/runs/{id}': {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /** One run. */
    get: operations['getRun'];
    /** Makes a run, once: the same id with the same spec finds the run that was made before. */
    put: operations['putRun'];
    post?: never;
    /** Deletes a run that has ended, with its output. */
    delete: operations['deleteRun'];
    options?: never;
    head?: never;
    /** Names or pins a run. */
    patch: operations['markRun'];
    trace?: never;
  };
  '/v1/runs/{id}/export': {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /** What is stored of a run's output now, as a file. */
    get: operations['exportRun'];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  '/v1/runs/{id}/kill': {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    get?: never;
    put?: never;
    /** Kills every process of a run. */
    post: operations['killRun'];
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  '/v1/runs/{id}/resize': {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    get?: never;
    put?: never;
    /** Changes the size of a run's terminal. */
    post: operations['resizeTerminal'];
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  '/v1/runs/{id}/screen': {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /** What brings a fresh terminal to a console's state, made of the last 4 MiB that it wrote. */
    get: operations['readScreen'];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  '/v1/runs/{id}/search': {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /** The lines of a run's stored output that match, found by the node's `grep`. */
    get: operations['searchRun'];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  '/v1/runs/{id}/signal': {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    get?: never;
    put?: never;
    /** Sends a signal to a run's process group. */
    post: operations['signalRun'];
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  '/v1/runs/{id}/stderr': {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /** The bytes of stderr. */
    get: operations['readStderr'];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  '/v1/runs/{id}/stdin': {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    get?: never;
    put?: never;
    /** Writes to a run's stdin, once for each number; the answer comes when it was taken. */
    post: operations['writeStdin'];
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  '/v1/runs/{id}/stdout': {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /** The bytes of stdout. */
    get: operations['readStdout'];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  '/v1/runs/{id}/stream': {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /** A run's output as frames, in the order of writing. */
    get: operations['followRun'];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  '/v1/runs/{id}/tty': {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /** The bytes of a console. */
    get: operations['readTty'];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  '/v1/runs/{id}/viewers': {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /** Who looks at a run now, in the order in which they came. */
    get: operations['listViewers'];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  '/v1/sessions/{id}': {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    get?: never;
    put?: never;
    post?: never;
    /** Ends a session's shell. */
    delete: operations['endSession'];
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  '/v1/shared/{owner}/file': {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /** A file that another user shares. */
    get: operations['readSharedFile'];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  '/v1/shared/{owner}/runs/{id}': {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /** A run that another user shares. */
    get: operations['getSharedRun'];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  '/v1/shared/{owner}/runs/{id}/{part}': {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /** A shared run's `stream`, `stdout`, `stderr`, `tty`, `screen`, `search` or `viewers`, with the query of the route of that name. */
    get: operations['viewSharedRun'];
    put?: never;
    /** A shared run's `stdin`, `signal` (`INT` only) or `resize`, where the share lets this user drive. */
    post: operations['driveSharedRun'];
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  '/v1/shares': {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /** What this user shares, and what others share with this user on this node. */
    get: operations['listShares'];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  '/v1/shares/{id}': {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    get?: never;
    /** Shares something, once: the same id with the same spec finds the share that was made before. */
    put: operations['putShare'];
    post?: never;
    /** Takes a share back. Guests who are looking are cut at once. */
    delete: operations['deleteShare'];
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  '/v1/status': {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    /** The agent's state. */
    get: operations['getStatus'];
    put?: never;
    post?: never;
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
  '/v1/stop': {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    get?: never;
    put?: never;
    /** Stops the agent. */
    post: operations['stopAgent'];
    delete?: never;
    options?: never;
    head?: never;
    patch?: never;
    trace?: never;
  };
}
export type webhooks = Record<string, never>;
export interface components {
  schemas: {
    /**
     * @description What one may do with a run.
     * @enum {string}
     */
    Access: 'view' | 'drive';
    /** @description Who answers on the agent's socket. */
    AgentHello: {
      /** @description The kernel's id of the node's present boot; an agent of an earlier release does not say. */
      bootId?: string | null;
      /** @description The SHA-256 of its binary, in hex. */
      build: string;
      /** @description The node's name. */
      host: string;
      /**
       * Format: int32
       * @description Its process id.
       */
      pid: number;
      /**
       * Format: int32
       * @description The protocol it speaks.
       */
      protocol: number;
      /** @description Its socket's absolute path. */
      socket: string;
      /** @description Its release. */
      version: string;
    };
    /** @description What the agent says. */
    AgentMessage:
      | {
          /**
           * Format: int32
           * @description What the ping carried.
           */
          nonce: number;
          /** @enum {string} */
          type: 'pong';
        }
      | {
          /**
           * Format: int32
           * @description The channel.
           */
          channel: number;
          /**
           * Format: int64
           * @description The highest sequence number taken.
           */
          seq: number;
          /** @enum {string} */
          type: 'stdinAck';
        }
      | {
          /** @description What. */
          event: components['schemas']['Event'];
          /** @enum {string} */
          type: 'event';
        }
      | {
          /**
           * Format: int32
           * @description The channel, if it was about one.
           */
          channel?: number | null;
          /** @description Why. */
          error: components['schemas']['ApiError'];
          /** @enum {string} */
          type: 'error';
        };
    /** @description The agent's state. */
    AgentStatus: {
      /**
       * Format: int64
       * @description Bytes free where runs are stored.
       */
      freeBytes: number;
      /** @description Who it is. */
      hello: components['schemas']['AgentHello'];
      /** @description The home directory. */
      home: components['schemas']['ByteString'];
      /**
       * Format: int32
       * @description How many there may be with what the node allows this user now; more runs wait.
       */
      maxSupervisors?: number;
      /**
       * Format: int64
       * @description What the node's clock says, in milliseconds since 1970; an agent of an earlier release does not say.
       */
      nowMs?: number;
      /**
       * Format: int32
       * @description How many runs wait.
       */
      queued: number;
      /**
       * Format: int64
       * @description Resident memory in bytes.
       */
      resident: number;
      /**
       * Format: int32
       * @description How many runs live.
       */
      running: number;
      /**
       * Format: int32
       * @description How many session shells live.
       */
      sessions: number;
      /**
       * Format: int64
       * @description When it started, in milliseconds since 1970.
       */
      startedMs: number;
      /**
       * Format: int64
       * @description Bytes that the stored runs take, as far as it is known: it is measured seldom and added up in between.
       */
      storeBytes?: number;
      /**
       * Format: int64
       * @description Bytes that they may take; above it the oldest that have ended are deleted. 0 while it is not known.
       */
      storeLimit?: number;
      /**
       * Format: int32
       * @description How many supervisors of single runs there are. A session's is not counted.
       */
      supervisors?: number;
      /** @description The user's login name. */
      user: string;
    };
    /** @description A failure as every edge tells it: what failed, why, and what to do next. */
    ApiError: {
      /** @description The causes, outermost first. */
      causes?: string[];
      /** @description The kind. */
      code: components['schemas']['ErrorCode'];
      /** @description What the user can do next. */
      hints?: string[];
      /** @description What failed and where, in a sentence fragment without a full stop. */
      message: string;
      /** @description The node that the error speaks of. */
      node?: string | null;
      /** @description The id under which the log has more, where a request was logged. */
      requestId?: string | null;
    };
    /** @description One thing that a guest did. */
    AuditEntry: {
      /** @description What, in words: `opened`, `left`, `typed 12 bytes`, `sent INT`, `read`, `refused: …`. */
      action: string;
      /** @description Who: the login name. */
      guest: string;
      /** @description What it was about, in one line. */
      object: string;
      /** @description By which share. */
      share: components['schemas']['ShareId'];
      /**
       * Format: int64
       * @description When, in milliseconds since 1970.
       */
      tMs: number;
      /**
       * Format: int32
       * @description Who: the kernel's number.
       */
      uid: number;
    };
    /** @description The answer of `GET /v1/audit`: newest first. */
    AuditList: {
      /**
       * @description What guests did.
       * @default []
       */
      entries: components['schemas']['AuditEntry'][];
    };
    /** @description Text, or bytes that are not UTF-8 in base64. */
    ByteString:
      | string
      | {
          base64: string;
        };
    /** @description The command itself. */
    Command:
      | {
          /** @description A line for the shell: the session's, else a fresh login shell. */
          shell: components['schemas']['ByteString'];
        }
      | {
          /** @description A program and its arguments, passed as they are. */
          argv: components['schemas']['ByteString'][];
        }
      | 'loginShell';
    /** @description A file system. */
    Disk: {
      /**
       * Format: int64
       * @description Bytes that the user can still write.
       */
      freeBytes: number;
      /**
       * Format: int64
       * @description Files that the user can still make; nothing where they are not counted.
       */
      freeFiles?: number | null;
      /** @description Its type, such as `nfs4`, as the kernel has it. */
      kind: string;
      /** @description Where it is mounted. */
      mount: components['schemas']['ByteString'];
      /** @description Whether programs cannot be executed from it. */
      noExec: boolean;
      /** @description Whether it cannot be written. */
      readOnly: boolean;
    };
    /**
     * @description What kind of failure it is. Closed: a client may match on it.
     * @enum {string}
     */
    ErrorCode:
      | 'badRequest'
      | 'unauthorized'
      | 'forbidden'
      | 'notFound'
      | 'conflict'
      | 'otherNode'
      | 'tooLarge'
      | 'badOffset'
      | 'notConnected'
      | 'connectFailed'
      | 'authFailed'
      | 'hostKeyUnknown'
      | 'hostKeyChanged'
      | 'agentFailed'
      | 'versionMismatch'
      | 'noSpace'
      | 'unavailable'
      | 'internal';
    /** @description One thing that happened. */
    Event:
      | {
          /**
           * Format: int64
           * @description The sequence number of the newest event so far.
           */
          seq: number;
          /** @enum {string} */
          type: 'ready';
        }
      | {
          /** @description The run as it is. */
          run: components['schemas']['Run'];
          /**
           * Format: int64
           * @description Counts up by one for every event of this agent process.
           */
          seq: number;
          /** @enum {string} */
          type: 'run';
        }
      | {
          /** @description The run that was. */
          run: components['schemas']['RunId'];
          /**
           * Format: int64
           * @description Counts up by one for every event of this agent process.
           */
          seq: number;
          /** @enum {string} */
          type: 'gone';
        }
      | {
          /** @description The run. */
          run: components['schemas']['RunId'];
          /**
           * Format: int64
           * @description Counts up by one for every event of this agent process.
           */
          seq: number;
          /** @enum {string} */
          type: 'presence';
          /** @description All who look at it now. */
          viewers: components['schemas']['Viewer'][];
        }
      | {
          /**
           * Format: int64
           * @description Counts up by one for every event of this agent process.
           */
          seq: number;
          /** @enum {string} */
          type: 'shares';
        };
    /** @description One name in a directory. */
    FileEntry: {
      /** @description What it is. */
      kind: components['schemas']['FileKind'];
      /**
       * Format: int32
       * @description Its permission bits.
       */
      mode: number;
      /**
       * Format: int64
       * @description When its content changed, in milliseconds since 1970.
       */
      modifiedMs: number;
      /** @description The name, as bytes. */
      name: components['schemas']['ByteString'];
      /**
       * Format: int64
       * @description Its size in bytes.
       */
      size: number;
      targetKind?: components['schemas']['FileKind'] | null;
    };
    /**
     * @description What an entry is, without following a link.
     * @enum {string}
     */
    FileKind: 'file' | 'directory' | 'symlink' | 'other';
    /** @description A page of a directory, in the asked order. */
    Listing: {
      /** @description The page. */
      entries: components['schemas']['FileEntry'][];
      /**
       * Format: int64
       * @description The index of the page's first entry.
       */
      offset: number;
      /** @description The directory's absolute path. */
      path: components['schemas']['ByteString'];
      /**
       * Format: int64
       * @description How many entries the directory has.
       */
      total: number;
    };
    /** @description What can be found out about the node without asking anybody's permission. */
    NodeFacts: {
      /** @description The processor's architecture, as `uname -m` has it. */
      arch: string;
      /** @description Whether the node ends the user's processes when the last session ends. */
      endsAtLogout: boolean;
      /** @description The version of the C library that the node's programs use, if `getconf` tells. */
      glibc?: string | null;
      /** @description The kernel's name and release. */
      kernel: string;
      /**
       * Format: int64
       * @description How many processes and threads the user may have; nothing without a limit.
       */
      maxProcesses?: number | null;
      /** @description The directories that matter. */
      places: components['schemas']['NodePlace'][];
      /**
       * Format: int64
       * @description How many the user has.
       */
      processes: number;
      quota?: components['schemas']['Quota'] | null;
      /** @description The batch systems whose commands are there. */
      schedulers: components['schemas']['Scheduler'][];
      /**
       * Format: int64
       * @description How long the node has been up, in seconds.
       */
      uptimeS?: number | null;
    };
    /** @description A directory of the node. */
    NodePlace: {
      disk?: components['schemas']['Disk'] | null;
      /** @description Its path. */
      path: components['schemas']['ByteString'];
      /** @description What it is for. */
      purpose: components['schemas']['Purpose'];
    };
    /**
     * @description What a directory is for.
     * @enum {string}
     */
    Purpose: 'home' | 'agent' | 'runs' | 'tmp';
    /** @description What a user may keep on a file system. */
    Quota: {
      /**
       * Format: int64
       * @description Bytes that are used.
       */
      bytes: number;
      /**
       * Format: int64
       * @description Files that there are.
       */
      files: number;
      /**
       * Format: int64
       * @description How many there may be; 0 without a limit.
       */
      maxBytes: number;
      /**
       * Format: int64
       * @description How many there may be; 0 without a limit.
       */
      maxFiles: number;
    };
    /** @description A run as the agent knows it. */
    Run: {
      /**
       * Format: int64
       * @description When it was asked for, in milliseconds since 1970, by the node's clock.
       */
      createdMs: number;
      cwdAfter?: components['schemas']['ByteString'] | null;
      /** @description How many of them are on the disk for sure, and survive a power cut. */
      durable?: components['schemas']['StreamSizes'];
      /**
       * Format: int64
       * @description When it ended.
       */
      endedMs?: number | null;
      /**
       * Format: int32
       * @description The exit code; 128 + signal number when a signal ended it, as shells have it.
       */
      exitCode?: number | null;
      /** @description The node it runs or ran on. */
      host: string;
      /** @description Its id. */
      id: components['schemas']['RunId'];
      /**
       * @description Whether it lives, on the node of the agent that answers. `false` for a run of another node: then `state` is
       *     what was stored last, and only that node's agent knows more.
       */
      live?: boolean;
      /** @description What the user calls it. */
      name?: string | null;
      /**
       * Format: int32
       * @description Its process id.
       */
      pid?: number | null;
      /** @description Whether it is kept however old it gets. */
      pinned?: boolean;
      /**
       * Format: int32
       * @description Where it stands among those that wait for a process; 1 is the next.
       */
      position?: number | null;
      /** @description Why it is stalled or lost, or could not start, in words. */
      reason?: string | null;
      /** @description The signal that ended it, such as `KILL`. */
      signal?: string | null;
      /** @description How many bytes each of its streams holds. */
      sizes?: components['schemas']['StreamSizes'];
      /** @description What was asked for. */
      spec: components['schemas']['RunSpec'];
      /**
       * Format: int64
       * @description When its process started.
       */
      startedMs?: number | null;
      /** @description Where it is in its life. */
      state: components['schemas']['RunState'];
    };
    /**
     * Format: uuid
     * @description Names one run. A version 7 UUID made by the client, so ids sort by time of creation.
     */
    RunId: string;
    /** @description The answer of `GET /v1/runs`: newest first. */
    RunList: {
      next?: components['schemas']['RunId'] | null;
      /** @description A page of runs. */
      runs: components['schemas']['Run'][];
    };
    /** @description The body of `PATCH /v1/runs/{id}`: what the user notes on a run. What is left out stays as it is. */
    RunMarks: {
      /**
       * @description What it shall be called, at most 80 characters; an empty name takes the name away.
       * @default null
       */
      name: string | null;
      /**
       * @description Whether it is kept however old it gets.
       * @default null
       */
      pinned: boolean | null;
    };
    /** @description What to run, as a client asks for it with `PUT /v1/runs/{id}`. */
    RunSpec: {
      /** @description The command. */
      command: components['schemas']['Command'];
      cwd?: components['schemas']['ByteString'] | null;
      /** @description Environment to add. For a line in a session it lasts for that line only. */
      env?: {
        [key: string]: components['schemas']['ByteString'];
      };
      /**
       * Format: int64
       * @description How many bytes of its output are kept, in whole segments; of more, the first and the last are.
       *     Without it, 1 GiB.
       */
      keepBytes?: number | null;
      /**
       * Format: int32
       * @description How much it gives way to others, 0 to 19, as `nice -n` has it. Not for a line in a session.
       */
      nice?: number | null;
      pty?: components['schemas']['TerminalSize'] | null;
      session?: components['schemas']['SessionId'] | null;
      /** @description Whether stdin is empty (`closed`) or fed by `POST …/stdin` (`open`). */
      stdin?: components['schemas']['StdinMode'];
      /**
       * Format: int64
       * @description After so many milliseconds from its start every process of it is killed, whoever is connected then.
       */
      timeoutMs?: number | null;
    };
    /**
     * @description Where a run is in its life; the module draws the arrows.
     * @enum {string}
     */
    RunState: 'queued' | 'running' | 'stalled' | 'orphaned' | 'exited' | 'lost';
    /** @description A batch system. */
    Scheduler: {
      /** @description Why it did not answer. */
      error?: string | null;
      /** @description Its name. */
      name: string;
      /** @description What its server answered: a version. */
      version?: string | null;
    };
    /** @description The answer of `GET /v1/runs/{id}/screen`: a console as it looks at an offset. */
    Screen: {
      /**
       * @description What brings a fresh terminal of that size to this state: lines scrolled off, the screen, colours, modes, the
       *     cursor. It asks the terminal nothing.
       */
      data: components['schemas']['ByteString'];
      /**
       * Format: int64
       * @description The offset in the `tty` stream: follow the run from here.
       */
      offset: number;
      /**
       * Format: int32
       * @description How many lines lie above the screen in `data`.
       */
      scrollback: number;
      /** @description The terminal's size there. */
      size: components['schemas']['TerminalSize'];
    };
    /** @description One line that matches. */
    SearchHit: {
      /**
       * Format: int64
       * @description The number of the line among those that are kept, from 1.
       */
      line: number;
      /**
       * Format: int64
       * @description The offset of the line's first byte in the stream.
       */
      offset: number;
      /** @description The stream. */
      stream: components['schemas']['StreamName'];
      /**
       * Format: int64
       * @description When that byte was written, in milliseconds since 1970.
       */
      tMs: number;
      /** @description The line, cut when it is long. */
      text: components['schemas']['ByteString'];
    };
    /** @description The answer of `GET /v1/runs/{id}/search`. */
    SearchResult: {
      /**
       * @description Whether a limit ended the search before the end of the output, and which.
       * @default null
       */
      cut: string | null;
      /**
       * @description The lines that match, in the order of the stream.
       * @default []
       */
      hits: components['schemas']['SearchHit'][];
    };
    /** @description Names one session (a notebook's shell): 1 to 64 of `A-Z a-z 0-9 . _ -`, not starting with a dot. */
    SessionId: string;
    /** @description A share. */
    Share: {
      /**
       * Format: int64
       * @description When it was shared, in milliseconds since 1970.
       */
      createdMs: number;
      /** @description Its id. */
      id: components['schemas']['ShareId'];
      /** @description Who shares: the login name. */
      owner: string;
      /** @description What was asked for. A guest sees only their own name among the guests. */
      spec: components['schemas']['ShareSpec'];
      /** @description One line that says what it is: the command, the console's name, the file's path. */
      title: string;
    };
    /**
     * Format: uuid
     * @description Names one share; made by the client, so that a retry shares once.
     */
    ShareId: string;
    /** @description The answer of `GET /v1/shares`. */
    ShareList: {
      /**
       * @description What this user shares, newest first.
       * @default []
       */
      byMe: components['schemas']['Share'][];
      /**
       * @description Why sharing is off here, if it is.
       * @default null
       */
      off: string | null;
      /**
       * @description What others share with this user on this node, newest first.
       * @default []
       */
      withMe: components['schemas']['Share'][];
    };
    /** @description The body of `PUT /v1/shares/{id}`. */
    ShareSpec: {
      /** @description What they may do. A file can only be viewed. */
      access: components['schemas']['Access'];
      /**
       * Format: int64
       * @description When it ends, in milliseconds since 1970; without it, when it is taken back.
       */
      expiresMs?: number | null;
      /** @description With whom: login names on the cluster, at least one. */
      guests: string[];
      /** @description What. */
      object: components['schemas']['SharedObject'];
    };
    /** @description What is shared. It never becomes more than it was when it was shared. */
    SharedObject:
      | {
          /** @description A run or a console. */
          run: {
            /** @description The run. */
            run: components['schemas']['RunId'];
            /** @description Only these of its streams; all, when empty. */
            streams?: components['schemas']['StreamName'][];
          };
        }
      | {
          /** @description One regular file. */
          file: {
            /** @description Its absolute path. */
            path: components['schemas']['ByteString'];
          };
        };
    /** @description The body of `POST /v1/runs/{id}/signal`. */
    SignalRequest: {
      /**
       * @description The signal's name without `SIG`: `INT`, `TERM`, `KILL`, `HUP`, `QUIT`, `USR1`, `USR2`,
       *     `STOP`, `CONT`.
       */
      signal: string;
    };
    /**
     * @description The order of a listing; directories always come first.
     * @enum {string}
     */
    SortKey: 'name' | 'size' | 'modified';
    /** @description The answer of `POST /v1/runs/{id}/stdin`. */
    StdinAck: {
      /**
       * Format: int64
       * @description The highest sequence number of this writer that has been taken.
       */
      seq: number;
    };
    /**
     * @description Where a run's stdin comes from.
     * @enum {string}
     */
    StdinMode: 'closed' | 'open';
    /** @description The body of `POST /v1/stop`. */
    StopRequest: {
      /**
       * @description Whether sessions and live runs are ended too; without it they go on.
       * @default false
       */
      endRuns: boolean;
    };
    /**
     * @description One of a run's streams.
     * @enum {string}
     */
    StreamName: 'stdout' | 'stderr' | 'tty';
    /** @description The sizes of a run's streams, in bytes. */
    StreamSizes: {
      /**
       * Format: int64
       * @description stderr.
       * @default 0
       */
      stderr: number;
      /**
       * Format: int64
       * @description stdout.
       * @default 0
       */
      stdout: number;
      /**
       * Format: int64
       * @description A console's single stream.
       * @default 0
       */
      tty: number;
    };
    /** @description A terminal's size in characters. */
    TerminalSize: {
      /**
       * Format: int32
       * @description Columns.
       */
      cols: number;
      /**
       * Format: int32
       * @description Rows.
       */
      rows: number;
    };
    /** @description Somebody who looks at a run now. */
    Viewer: {
      /** @description What they may do. */
      access: components['schemas']['Access'];
      /**
       * Format: int64
       * @description When they came, in milliseconds since 1970.
       */
      sinceMs: number;
      /** @description Their login name on the node. */
      user: string;
    };
    /** @description What a viewer says. */
    ViewerMessage:
      | {
          /** @description What the viewer wants to do; `view` sends neither stdin nor a size. */
          access?: components['schemas']['Access'];
          /**
           * Format: int32
           * @description How many bytes of a stream the viewer may be behind. Further behind, it goes on at a quarter of
           *     that before the stream's end: what lies between is passed over without a `Gap`, because it is
           *     still stored. Without it every byte is sent.
           */
          behind?: number | null;
          /**
           * Format: int32
           * @description The channel's number, not in use on this socket.
           */
          channel: number;
          /**
           * Format: int32
           * @description How many bytes may be sent before more credit comes.
           */
          credit: number;
          /** @description The offset in each stream to go on from. */
          from?: components['schemas']['StreamSizes'];
          /** @description Whose run it is, when another user shares it. */
          owner?: string | null;
          /** @description The run. */
          run: components['schemas']['RunId'];
          /** @enum {string} */
          type: 'open';
          /**
           * @description Who writes stdin here, in the same words again after a reconnect (as `writer=` of
           *     `POST …/stdin`). Without it the channel is a writer of its own.
           */
          writer?: string | null;
        }
      | {
          /**
           * Format: int32
           * @description How many more.
           */
          bytes: number;
          /**
           * Format: int32
           * @description The channel.
           */
          channel: number;
          /** @enum {string} */
          type: 'credit';
        }
      | {
          /**
           * Format: int32
           * @description The channel.
           */
          channel: number;
          /** @description The size. */
          size: components['schemas']['TerminalSize'];
          /** @enum {string} */
          type: 'resize';
        }
      | {
          /**
           * Format: int32
           * @description The channel.
           */
          channel: number;
          /** @enum {string} */
          type: 'close';
        }
      | {
          /** @enum {string} */
          type: 'events';
        }
      | {
          /**
           * Format: int32
           * @description Anything; it comes back.
           */
          nonce: number;
          /** @enum {string} */
          type: 'ping';
        };
  };
  responses: never;
  parameters: never;
  requestBodies: never;
  headers: never;
  pathItems: never;
}
export type $defs = Record<string, never>;
export interface operations {
  listAudit: {
    parameters: {
      query?: {
        /** @description How many, at most 1000. */
        limit?: number;
      };
      header?: never;
      path?: never;
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      200: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['AuditList'];
        };
      };
    };
  };
  followEvents: {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      200: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/x-ndjson': components['schemas']['Event'];
        };
      };
    };
  };
  readFile: {
    parameters: {
      query: {
        /** @description Percent-encoded bytes; `~` is the home directory. */
        path: string;
      };
      header?: never;
      path?: never;
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description The file. */
      200: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/octet-stream': unknown;
        };
      };
      /** @description The asked range. */
      206: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/octet-stream': unknown;
        };
      };
      default: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
    };
  };
  listFiles: {
    parameters: {
      query: {
        /** @description Percent-encoded bytes; `~` is the home directory. */
        path: string;
        /** @description The index of the first entry. */
        offset?: number;
        /** @description How many entries, at most 5000. */
        limit?: number;
        /** @description The order; directories come first. */
        sort?: components['schemas']['SortKey'];
      };
      header?: never;
      path?: never;
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      200: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['Listing'];
        };
      };
      default: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
    };
  };
  getNode: {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      200: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['NodeFacts'];
        };
      };
    };
  };
  getNoise: {
    parameters: {
      query: {
        /** @description How many, at most 64 MiB. */
        count: number;
      };
      header?: never;
      path?: never;
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      200: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/octet-stream': unknown;
        };
      };
      400: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
    };
  };
  listRuns: {
    parameters: {
      query?: {
        /** @description How many, at most 500. */
        limit?: number;
        /** @description Only runs older than this one. */
        before?: string;
        /** @description Only runs of this session. */
        session?: string;
        /** @description Only runs with this in the command or the name, whatever the case. */
        text?: string;
        /** @description Only runs in this state. */
        state?: components['schemas']['RunState'];
        /** @description Only consoles, or only what has no terminal. */
        console?: boolean;
        /** @description Only what lives on this node, however old it is, or only what does not. */
        live?: boolean;
      };
      header?: never;
      path?: never;
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      200: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['RunList'];
        };
      };
    };
  };
  getRun: {
    parameters: {
      query?: never;
      header?: never;
      path: {
        id: string;
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      200: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['Run'];
        };
      };
      404: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
    };
  };
  putRun: {
    parameters: {
      query?: {
        /** @description Whether to answer with the run's frames until its end. */
        stream?: boolean;
      };
      header?: never;
      path: {
        id: string;
      };
      cookie?: never;
    };
    requestBody: {
      content: {
        'application/json': components['schemas']['RunSpec'];
      };
    };
    responses: {
      200: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['Run'];
        };
      };
      201: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['Run'];
        };
      };
      409: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
      507: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
    };
  };
  deleteRun: {
    parameters: {
      query?: never;
      header?: never;
      path: {
        id: string;
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      204: {
        headers: {
          [name: string]: unknown;
        };
        content?: never;
      };
      404: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
      409: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
    };
  };
  markRun: {
    parameters: {
      query?: never;
      header?: never;
      path: {
        id: string;
      };
      cookie?: never;
    };
    requestBody: {
      content: {
        'application/json': components['schemas']['RunMarks'];
      };
    };
    responses: {
      200: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['Run'];
        };
      };
      404: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
      409: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
    };
  };
  exportRun: {
    parameters: {
      query?: {
        /** @description The bytes, text without escape sequences, or an asciicast v2 recording of a console. */
        as?: 'raw' | 'text' | 'cast';
        /** @description Which stream; without it all of them in the order of writing. */
        stream?: components['schemas']['StreamName'];
      };
      header?: never;
      path: {
        id: string;
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      200: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/octet-stream': unknown;
        };
      };
      404: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
      409: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
    };
  };
  killRun: {
    parameters: {
      query?: never;
      header?: never;
      path: {
        id: string;
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      200: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['Run'];
        };
      };
      404: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
    };
  };
  resizeTerminal: {
    parameters: {
      query?: never;
      header?: never;
      path: {
        id: string;
      };
      cookie?: never;
    };
    requestBody: {
      content: {
        'application/json': components['schemas']['TerminalSize'];
      };
    };
    responses: {
      204: {
        headers: {
          [name: string]: unknown;
        };
        content?: never;
      };
      409: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
    };
  };
  readScreen: {
    parameters: {
      query?: {
        /** @description How many lines above the screen, at most 10000; without it 1000. */
        lines?: number;
      };
      header?: never;
      path: {
        id: string;
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      200: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['Screen'];
        };
      };
      404: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
      409: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
      503: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
    };
  };
  searchRun: {
    parameters: {
      query: {
        /** @description An extended regular expression, as `grep -E` has it. */
        pattern: string;
        /** @description In which stream; without it in each. */
        stream?: components['schemas']['StreamName'];
        /** @description Whether the pattern is plain text. */
        fixed?: boolean;
        /** @description Whether small and capital letters are the same. */
        ignoreCase?: boolean;
        /** @description How many lines, at most 1000. */
        limit?: number;
      };
      header?: never;
      path: {
        id: string;
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      200: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['SearchResult'];
        };
      };
      400: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
      404: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
      503: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
    };
  };
  signalRun: {
    parameters: {
      query?: never;
      header?: never;
      path: {
        id: string;
      };
      cookie?: never;
    };
    requestBody: {
      content: {
        'application/json': components['schemas']['SignalRequest'];
      };
    };
    responses: {
      200: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['Run'];
        };
      };
      409: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
    };
  };
  readStderr: {
    parameters: {
      query?: {
        /** @description The offset to start at. */
        from?: number;
        /** @description The offset to end before. */
        to?: number;
        /** @description Whether to wait for the run's end. */
        follow?: boolean;
        /** @description End after so many lines. */
        head?: number;
        /** @description Start at the last so many lines. */
        tail?: number;
        /** @description Start at what was written then, in milliseconds since 1970 by the node's clock. */
        since?: number;
        /** @description End with what was written then. */
        until?: number;
      };
      header?: never;
      path: {
        id: string;
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      200: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/octet-stream': unknown;
        };
      };
      400: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
      416: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
    };
  };
  writeStdin: {
    parameters: {
      query: {
        /** @description Who writes; each has its own numbers. */
        writer: string;
        /** @description The number of this piece, from 1. */
        seq: number;
        /** @description Whether stdin ends after it. */
        eof?: boolean;
      };
      header?: never;
      path: {
        id: string;
      };
      cookie?: never;
    };
    requestBody: {
      content: {
        'application/octet-stream': number[];
      };
    };
    responses: {
      200: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['StdinAck'];
        };
      };
      409: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
    };
  };
  readStdout: {
    parameters: {
      query?: {
        /** @description The offset to start at. */
        from?: number;
        /** @description The offset to end before. */
        to?: number;
        /** @description Whether to wait for the run's end. */
        follow?: boolean;
        /** @description End after so many lines. */
        head?: number;
        /** @description Start at the last so many lines. */
        tail?: number;
        /** @description Start at what was written then, in milliseconds since 1970 by the node's clock. */
        since?: number;
        /** @description End with what was written then. */
        until?: number;
      };
      header?: never;
      path: {
        id: string;
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      200: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/octet-stream': unknown;
        };
      };
      400: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
      416: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
    };
  };
  followRun: {
    parameters: {
      query?: {
        /** @description The offset in stdout to go on from. */
        stdout?: number;
        /** @description The offset in stderr. */
        stderr?: number;
        /** @description The offset in the terminal's stream. */
        tty?: number;
        /** @description Whether to wait for the run's end. */
        follow?: boolean;
        /** @description Start at the last so many lines of each stream, where that is behind its offset. */
        tail?: number;
        /** @description How many bytes of a stream one may be behind; further behind, bytes are passed over without a gap. */
        behind?: number;
        /** @description Look on as a viewer, whom the other viewers see, and who may do this. */
        access?: 'view' | 'drive';
      };
      header?: never;
      path: {
        id: string;
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      200: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/vnd.hpcclient.frames': unknown;
        };
      };
      404: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
      416: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
    };
  };
  readTty: {
    parameters: {
      query?: {
        /** @description The offset to start at. */
        from?: number;
        /** @description The offset to end before. */
        to?: number;
        /** @description Whether to wait for the run's end. */
        follow?: boolean;
        /** @description End after so many lines. */
        head?: number;
        /** @description Start at the last so many lines. */
        tail?: number;
        /** @description Start at what was written then, in milliseconds since 1970 by the node's clock. */
        since?: number;
        /** @description End with what was written then. */
        until?: number;
      };
      header?: never;
      path: {
        id: string;
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      200: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/octet-stream': unknown;
        };
      };
      400: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
      416: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
    };
  };
  listViewers: {
    parameters: {
      query?: never;
      header?: never;
      path: {
        id: string;
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      200: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['Viewer'][];
        };
      };
      404: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
    };
  };
  endSession: {
    parameters: {
      query?: never;
      header?: never;
      path: {
        id: string;
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      204: {
        headers: {
          [name: string]: unknown;
        };
        content?: never;
      };
      404: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
    };
  };
  readSharedFile: {
    parameters: {
      query: {
        /** @description Its absolute path, percent-encoded bytes. */
        path: string;
      };
      header?: never;
      path: {
        owner: string;
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      /** @description The file. */
      200: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/octet-stream': unknown;
        };
      };
      /** @description The asked range. */
      206: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/octet-stream': unknown;
        };
      };
      default: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
    };
  };
  getSharedRun: {
    parameters: {
      query?: never;
      header?: never;
      path: {
        owner: string;
        id: string;
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      200: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['Run'];
        };
      };
      404: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
      503: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
    };
  };
  viewSharedRun: {
    parameters: {
      query?: never;
      header?: never;
      path: {
        owner: string;
        id: string;
        part: string;
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      200: {
        headers: {
          [name: string]: unknown;
        };
        content?: never;
      };
      404: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
      503: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
    };
  };
  driveSharedRun: {
    parameters: {
      query?: never;
      header?: never;
      path: {
        owner: string;
        id: string;
        part: string;
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      200: {
        headers: {
          [name: string]: unknown;
        };
        content?: never;
      };
      204: {
        headers: {
          [name: string]: unknown;
        };
        content?: never;
      };
      404: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
      503: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
    };
  };
  listShares: {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      200: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ShareList'];
        };
      };
    };
  };
  putShare: {
    parameters: {
      query?: never;
      header?: never;
      path: {
        id: string;
      };
      cookie?: never;
    };
    requestBody: {
      content: {
        'application/json': components['schemas']['ShareSpec'];
      };
    };
    responses: {
      200: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['Share'];
        };
      };
      201: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['Share'];
        };
      };
      400: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
      403: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
      404: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
      409: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
    };
  };
  deleteShare: {
    parameters: {
      query?: never;
      header?: never;
      path: {
        id: string;
      };
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      204: {
        headers: {
          [name: string]: unknown;
        };
        content?: never;
      };
      404: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['ApiError'];
        };
      };
    };
  };
  getStatus: {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    requestBody?: never;
    responses: {
      200: {
        headers: {
          [name: string]: unknown;
        };
        content: {
          'application/json': components['schemas']['AgentStatus'];
        };
      };
    };
  };
  stopAgent: {
    parameters: {
      query?: never;
      header?: never;
      path?: never;
      cookie?: never;
    };
    requestBody: {
      content: {
        'application/json': components['schemas']['StopRequest'];
      };
    };
    responses: {
      204: {
        headers: {
          [name: string]: unknown;
        };
        content?: never;
      };
    };
  };
}
