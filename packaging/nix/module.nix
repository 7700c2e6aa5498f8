# Kapla on NixOS: the daemon that keeps blocks, a publisher of this machine's /nix/store, and a proxy
# that the Nix of this machine asks. docs/nix.md shows how a configuration uses this file.
#
# The services run as users of their own, without privileges; systemd hands the signing key over. What
# they may do is what the units in packaging/ let them.
{
  config,
  lib,
  pkgs,
  utils,
  ...
}:

let
  inherit (lib)
    mkEnableOption
    mkIf
    mkMerge
    mkOption
    optional
    optionals
    types
    ;

  cfg = config.services.kapla;
  toml = pkgs.formats.toml { };
  socket = "/run/kapla/eris.sock";
  socketUrl = "coap+unix://${socket}";
  ofDaemon = optional cfg.daemon.enable "kaplad.service";
  anyServer = cfg.publish.enable || cfg.proxy.enable;

  # What all three are denied: as in packaging/*.service.
  hardening = {
    NoNewPrivileges = true;
    CapabilityBoundingSet = "";
    ProtectSystem = "strict";
    ProtectHome = true;
    PrivateTmp = true;
    PrivateDevices = true;
    ProtectClock = true;
    ProtectControlGroups = true;
    ProtectHostname = true;
    ProtectKernelLogs = true;
    ProtectKernelModules = true;
    ProtectKernelTunables = true;
    ProtectProc = "invisible";
    RestrictAddressFamilies = [
      "AF_UNIX"
      "AF_INET"
      "AF_INET6"
      "AF_NETLINK"
    ];
    RestrictNamespaces = true;
    RestrictRealtime = true;
    RestrictSUIDSGID = true;
    LockPersonality = true;
    RemoveIPC = true;
    SystemCallArchitectures = "native";
    SystemCallErrorNumber = "EPERM";
    UMask = "0077";
    LimitNOFILE = 8192;
    Restart = "on-failure";
    RestartSec = 2;
  };

  # Where the Nix of this machine finds the proxy.
  proxyHere =
    if builtins.elem cfg.proxy.listen [
      "0.0.0.0"
      "::"
    ] then
      "127.0.0.1"
    else if lib.hasInfix ":" cfg.proxy.listen then
      "[${cfg.proxy.listen}]"
    else
      cfg.proxy.listen;

  kapla = arguments: utils.escapeSystemdExecArgs ([ "${cfg.package}/bin/kapla" ] ++ arguments);

  # A server of substitutes: `name` is its user, and its directory below /var/cache/kapla.
  server =
    name: description: command:
    {
      inherit description;
      documentation = [ "https://purl.org/eris" ];
      after = [ "network.target" ] ++ ofDaemon;
      wants = ofDaemon;
      wantedBy = [ "multi-user.target" ];
      serviceConfig = hardening // {
        Type = "notify";
        ExecStart = command;
        ExecReload = "${pkgs.coreutils}/bin/kill -HUP $MAINPID";
        User = "kapla-${name}";
        Group = "kapla-${name}";
        SupplementaryGroups = optional cfg.daemon.enable "kapla";
        CacheDirectory = "kapla/${name}";
        CacheDirectoryMode = "0755";
        # A wrong configuration, or a key that is not there, does not get better by itself.
        RestartPreventExitStatus = [
          "2"
          "CREDENTIALS"
        ];
        SystemCallFilter = [
          "@system-service"
          "~@privileged @resources"
          # Baking lets others go first, for which @resources is too much.
          "setpriority"
        ];
      };
    };

  userOf = name: {
    users."kapla-${name}" = {
      isSystemUser = true;
      group = "kapla-${name}";
      description = "Kapla, ${name}";
    };
    groups."kapla-${name}" = { };
  };

  ofEris =
    what:
    mkOption {
      type = types.nullOr types.str;
      default = if cfg.daemon.enable then socketUrl else null;
      defaultText = "the daemon's socket, if that is enabled here";
      description = what;
    };

  extraArgs = mkOption {
    type = types.listOf types.str;
    default = [ ];
    description = "More options for its command line, as `kapla … --help` lists them.";
  };

  openFirewall = mkOption {
    type = types.bool;
    default = false;
    description = "Whether others may reach the port.";
  };
in
{
  options.services.kapla = {
    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ./package.nix { };
      defaultText = "the package beside this module";
      description = "The package that has `kapla` and `kaplad`.";
    };

    daemon = {
      enable = mkEnableOption "kaplad, which keeps ERIS blocks";

      settings = mkOption {
        type = toml.type;
        default = { };
        example = {
          max-size = "100 GiB";
        };
        description = ''
          Settings of the daemon, as docs/cli.md lists them. The listener at ${socket} is always
          there: what is named here in `listen` comes beside it.
        '';
      };
    };

    publish = {
      enable = mkEnableOption "kapla publish, a server of this machine's /nix/store";

      nixKeyFile = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "/var/lib/secrets/nix-key";
        description = ''
          A secret key as `nix key generate-secret` makes it, which root may read. It is a path as
          text, so that the key is not copied into the store. Without it nothing is signed here.
        '';
      };

      port = mkOption {
        type = types.port;
        default = 8080;
        description = "Where it listens.";
      };

      listen = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "127.0.0.1";
        description = "The address that it listens at; null for all.";
      };

      compression = mkOption {
        type = types.listOf types.str;
        default = [ "zstd:9" ];
        description = "How nars are compressed: `METHOD[:LEVEL]`.";
      };

      priority = mkOption {
        type = types.ints.unsigned;
        default = 100;
        description = "How soon Nix asks here, the lowest first. cache.nixos.org has 40.";
      };

      ttl = mkOption {
        type = types.str;
        default = "90d";
        description = "How long what has left the store is kept for clients that were told of it.";
      };

      erisStoreUrl = ofEris "The store that items go into; null: they get no URN.";

      inherit extraArgs openFirewall;
    };

    proxy = {
      enable = mkEnableOption "kapla proxy, which brings what the Nix of this machine asks for";

      upstream = mkOption {
        type = types.nonEmptyListOf types.str;
        default = [ "https://cache.nixos.org" ];
        description = "The servers of substitutes that it asks.";
      };

      listen = mkOption {
        type = types.str;
        default = "127.0.0.1";
        description = "The address that it listens at. Others need not ask it.";
      };

      port = mkOption {
        type = types.port;
        default = 8085;
        description = "Where it listens.";
      };

      erisStoreUrl = ofEris "Where blocks are looked for; null: nowhere.";

      useHere = mkOption {
        type = types.bool;
        default = true;
        description = "Whether the Nix of this machine asks the proxy, before all other servers.";
      };

      inherit extraArgs openFirewall;
    };
  };

  config = mkMerge [
    (mkIf (cfg.daemon.enable || anyServer) {
      environment.systemPackages = [ cfg.package ];
    })

    (mkIf cfg.daemon.enable {
      users.users.kapla = {
        isSystemUser = true;
        group = "kapla";
        description = "Kapla, ERIS blocks";
        home = "/var/lib/kapla";
      };
      users.groups.kapla = { };

      environment.etc."kapla/kapla.toml".source = toml.generate "kapla.toml" (
        { store = "/var/lib/kapla/blocks.sqlite"; }
        // cfg.daemon.settings
        // {
          listen = [ "${socketUrl}?mode=0660&group=kapla" ] ++ (cfg.daemon.settings.listen or [ ]);
        }
      );

      # The socket is there before the daemon runs, and while it is restarted.
      systemd.sockets.kaplad = {
        description = "Kapla, the socket of the store";
        documentation = [ "https://purl.org/eris" ];
        wantedBy = [ "sockets.target" ];
        listenStreams = [ socket ];
        socketConfig = {
          # The usual place, where programs look.
          Symlinks = [ "/run/eris.sock" ];
          SocketUser = "kapla";
          SocketGroup = "kapla";
          SocketMode = "0660";
          DirectoryMode = "0755";
          RemoveOnStop = true;
          Backlog = 128;
        };
      };

      systemd.services.kaplad = {
        description = "Kapla, a store of ERIS blocks";
        documentation = [ "https://purl.org/eris" ];
        after = [ "network.target" ];
        wantedBy = [ "multi-user.target" ];
        restartTriggers = [ config.environment.etc."kapla/kapla.toml".source ];
        serviceConfig = hardening // {
          Type = "notify";
          ExecStart = "${cfg.package}/bin/kaplad --config /etc/kapla/kapla.toml";
          ExecReload = "${pkgs.coreutils}/bin/kill -HUP $MAINPID";
          User = "kapla";
          Group = "kapla";
          StateDirectory = "kapla";
          StateDirectoryMode = "0700";
          RuntimeDirectory = "kapla";
          RuntimeDirectoryMode = "0755";
          RuntimeDirectoryPreserve = true;
          RestartPreventExitStatus = [ "2" ];
          TimeoutStopSec = 90;
          SystemCallFilter = [
            "@system-service"
            "~@privileged @resources"
            # Giving the socket to its group is a chown, which @privileged would forbid.
            "@chown"
          ];
        };
      };
    })

    (mkIf cfg.publish.enable {
      users = userOf "publish";
      networking.firewall.allowedTCPPorts = optional cfg.publish.openFirewall cfg.publish.port;

      systemd.services.kapla-publish =
        let
          command =
            kapla (
              [
                "publish"
                "--store-dir"
                builtins.storeDir
                "--port"
                (toString cfg.publish.port)
                "--priority"
                (toString cfg.publish.priority)
                "--ttl"
                cfg.publish.ttl
              ]
              ++ optionals (cfg.publish.listen != null) [
                "--listen"
                cfg.publish.listen
              ]
              ++ lib.concatMap (one: [
                "-C"
                one
              ]) cfg.publish.compression
              ++ optional (cfg.publish.erisStoreUrl != null) "--eris=${cfg.publish.erisStoreUrl}"
              ++ cfg.publish.extraArgs
            )
            # %d is where systemd puts the key: nothing that may be escaped.
            + lib.optionalString (cfg.publish.nixKeyFile != null) " --nix-key %d/nix-key";
          base = server "publish" "Kapla, a server of this machine's /nix/store" command;
        in
        base
        // {
          serviceConfig =
            base.serviceConfig
            // lib.optionalAttrs (cfg.publish.nixKeyFile != null) {
              LoadCredential = [ "nix-key:${cfg.publish.nixKeyFile}" ];
            };
        };
    })

    (mkIf cfg.proxy.enable {
      users = userOf "proxy";
      networking.firewall.allowedTCPPorts = optional cfg.proxy.openFirewall cfg.proxy.port;
      nix.settings.substituters = mkIf cfg.proxy.useHere (
        lib.mkBefore [ "http://${proxyHere}:${toString cfg.proxy.port}" ]
      );

      systemd.services.kapla-proxy = server "proxy" "Kapla, a proxy of substitutes" (
        kapla (
          [
            "proxy"
            "--listen"
            cfg.proxy.listen
            "--port"
            (toString cfg.proxy.port)
            "--cache"
            "/var/cache/kapla/proxy"
          ]
          ++ lib.concatMap (one: [
            "--upstream"
            one
          ]) cfg.proxy.upstream
          ++ [
            "--eris-store-url"
            # Without the option it would look for a daemon by itself.
            (if cfg.proxy.erisStoreUrl == null then "none" else cfg.proxy.erisStoreUrl)
          ]
          ++ cfg.proxy.extraArgs
        )
      );
    })
  ];
}
