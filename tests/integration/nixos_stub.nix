# As much of the module system of NixOS as packaging/nix/module.nix needs, to see what it makes of a
# configuration where nixpkgs is not. What a module defines is merged: sets by their names, lists one
# after the other, and two different values for one name are an error. An option that is not declared
# is one, as is a value of another type.
#
# `definition` are the options below services.kapla as JSON; the result is all that the module defines.
{ module, definition }:

let
  inherit (builtins)
    all
    attrNames
    concatLists
    concatStringsSep
    elem
    filter
    foldl'
    fromJSON
    hasAttr
    isAttrs
    isBool
    isInt
    isList
    isString
    listToAttrs
    map
    replaceStrings
    toJSON
    ;

  is = kind: value: isAttrs value && (value._type or "") == kind;

  types = {
    bool = isBool;
    str = isString;
    package = value: isString value || isAttrs value;
    port = value: isInt value && value >= 0 && value <= 65535;
    ints.unsigned = value: isInt value && value >= 0;
    nullOr = type: value: value == null || type value;
    listOf = type: value: isList value && all type value;
    nonEmptyListOf = type: value: isList value && value != [ ] && all type value;
  };

  lib = {
    inherit types;
    inherit (builtins) concatMap;
    mkOption = option: option // { _type = "option"; };
    mkEnableOption =
      what:
      lib.mkOption {
        type = types.bool;
        default = false;
        description = "Whether to enable ${what}.";
      };
    mkIf = condition: content: {
      _type = "if";
      inherit condition content;
    };
    mkMerge = contents: {
      _type = "merge";
      inherit contents;
    };
    mkBefore = content: {
      _type = "order";
      inherit content;
    };
    optional = condition: value: if condition then [ value ] else [ ];
    optionals = condition: values: if condition then values else [ ];
    optionalString = condition: text: if condition then text else "";
    optionalAttrs = condition: set: if condition then set else { };
    hasInfix = part: text: replaceStrings [ part ] [ "" ] text != text;
  };

  pkgs = {
    coreutils = "/coreutils";
    callPackage = _: _: "/kapla";
    formats.toml = _: {
      type = isAttrs;
      generate = name: value: { inherit name value; };
    };
  };

  utils.escapeSystemdExecArgs =
    arguments:
    concatStringsSep " " (
      map (argument: replaceStrings [ "%" "$" ] [ "%%" "$$" ] (toJSON argument)) arguments
    );

  evaluated = import module {
    inherit
      config
      lib
      pkgs
      utils
      ;
  };

  # Options with what is defined of them: their values.
  valuesOf =
    path: options: defined:
    let
      unknown = filter (name: !(hasAttr name options)) (attrNames defined);
      one =
        name:
        let
          option = options.${name};
          here = "${path}.${name}";
          value = defined.${name} or (option.default or (throw "${here} is not defined"));
        in
        if !(is "option" option) then
          valuesOf here option (defined.${name} or { })
        else if option.type value then
          value
        else
          throw "${here} is of another type: ${toJSON value}";
    in
    if unknown != [ ] then
      throw "there is no option ${path}.${builtins.head unknown}"
    else
      listToAttrs (
        map (name: {
          inherit name;
          value = one name;
        }) (attrNames options)
      );

  # All definitions of a module, or of what is in it: those under a false condition are none.
  definitionsOf =
    value:
    if is "merge" value then
      concatLists (map definitionsOf value.contents)
    else if is "if" value then
      if value.condition then definitionsOf value.content else [ ]
    else if is "order" value then
      definitionsOf value.content
    else if isAttrs value then
      [
        (listToAttrs (
          concatLists (
            map (
              name:
              map (content: {
                inherit name;
                value = content;
              }) (definitionsOf value.${name})
            ) (attrNames value)
          )
        ))
      ]
    else
      [ value ];

  merge =
    one: other:
    if isAttrs one && isAttrs other then
      one
      // listToAttrs (
        map (name: {
          inherit name;
          value = if hasAttr name one then merge one.${name} other.${name} else other.${name};
        }) (attrNames other)
      )
    else if isList one && isList other then
      one ++ other
    else if one == other then
      one
    else
      throw "two values for one option: ${toJSON one} and ${toJSON other}";

  defined = foldl' merge { } (definitionsOf evaluated.config);
  config = {
    # What the module looks at: which names there are must not hang on what it says.
    inherit (defined) environment;
    services.kapla = valuesOf "services.kapla" evaluated.options.services.kapla (fromJSON definition);
  };
in
# What is asked for is checked, whether the module looks at it or not.
builtins.deepSeq config.services.kapla defined
