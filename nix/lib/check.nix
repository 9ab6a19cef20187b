# Checks of values that people write, each ending evaluation with the place and the reason. `where` is `FILE: KEY`.
rec {
  fail = where: reason: throw "${where}: ${reason}";

  is = type: where: value:
    if builtins.typeOf value == type then value
    else fail where "is a ${builtins.typeOf value}, not a ${type}";

  string = is "string";
  int = is "int";
  bool = is "bool";
  set = is "set";

  oneOf = choices: where: value:
    if builtins.elem value choices then value
    else fail where "is ${builtins.toJSON value}, none of ${builtins.concatStringsSep ", " choices}";

  # Each element checked; the place names its number.
  listOf = check: where: value:
    builtins.genList (number: check "${where}[${toString number}]" (builtins.elemAt value number)) (
      builtins.length (is "list" where value)
    );

  attrsOf = check: where: value:
    builtins.mapAttrs (name: check "${where}.${name}") (is "set" where value);

  matching = pattern: reason: where: value:
    if builtins.match pattern (string where value) != null then value else fail where reason;

  # Only these keys; each present one checked. `schema`: { KEY = check; }
  struct = schema: where: value:
    let
      unknown = builtins.filter (key: !(schema ? ${key})) (builtins.attrNames (is "set" where value));
    in
    if unknown != [ ] then fail "${where}.${builtins.head unknown}" "there is no such key"
    else builtins.mapAttrs (key: given: schema.${key} "${where}.${key}" given) value;

  nonEmptyPath = matching "/[A-Za-z0-9._/+@-]*" "is no plain absolute path";
}
